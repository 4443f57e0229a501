//! The step.

use std::time::Instant;

use async_trait::async_trait;

use super::expression::Expression;
use crate::runtime::decode::as_object;
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::json::{Object, Value};
use crate::runtime::pipe::{PipeRequest, PipeResponse, PipeStep, State};
use crate::upstream::budget::Charge;

/// Puts the result of an expression in place of a response.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) expression: Expression,
}

impl Query {
    fn apply(&self, data: &Value, deadline: Instant) -> Result<(Value, Charge), Failure> {
        let _held = data.charge_expanded().map_err(|_| Failure::full())?;
        let found = self.expression.apply(data, deadline);
        let (found, held) = found.map_err(|fault| fault.failure(Kind::Script))?;
        let data = match found {
            Value::Null => Value::Object(Object::new()),
            found => as_object(found),
        };
        Ok((data, held))
    }
}

#[async_trait]
impl PipeStep for Query {
    async fn after(
        &self,
        _state: State,
        request: &PipeRequest,
        response: &mut PipeResponse,
    ) -> Result<(), Failure> {
        let made = self.apply(&response.data, request.deadline.into_std())?;
        (response.data, response.held) = made;
        Ok(())
    }
}
