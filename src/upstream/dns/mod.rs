//! The address table, refreshed off the request path.

mod due_queue;
mod name;
mod passed_on;
mod resolver;
mod srv;
mod table;

pub(super) use name::{Name, Response};
pub(super) use srv::{Service, SrvTarget};
pub use table::DnsTable;
