//! The step.

use async_trait::async_trait;

use crate::ext::body_generator::Maker;
use crate::runtime::failure::Failure;
use crate::runtime::pipe::{Passed, PipeRequest, PipeResponse, PipeStep, Sight, State};

/// Makes the envelope of a call.
#[derive(Debug)]
pub(super) struct Soap {
    pub(super) maker: Maker,
}

#[async_trait]
impl PipeStep for Soap {
    fn needs_body(&self) -> bool {
        true
    }

    fn sight(&self) -> Sight {
        Sight::Nothing
    }

    async fn before(&self, request: &mut PipeRequest) -> Result<Passed, Failure> {
        self.maker.replace(request)?;
        Ok(Passed::default())
    }

    async fn after(
        &self,
        _state: State,
        _request: &PipeRequest,
        _response: &mut PipeResponse,
    ) -> Result<(), Failure> {
        Ok(())
    }
}
