//! `backend/graphql`.
#[derive(Debug, Clone)]
pub struct GraphQl;
