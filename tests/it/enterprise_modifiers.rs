//! Blocks of KrakenD's enterprise edition that change requests and responses, over real sockets.

mod bodies;
mod compression;
mod extractor;
mod payload;
mod response_headers;
mod websocket;
