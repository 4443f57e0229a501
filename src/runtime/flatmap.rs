//! `flatmap_filter`.
#[derive(Debug, Clone)]
pub struct Flatmap;
