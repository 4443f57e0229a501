//! The step.

use std::time::Instant;

use async_trait::async_trait;

use super::expression::Expression;
use crate::runtime::decode::as_object;
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::json::{Object, Value};
use crate::runtime::pipe::{PipeRequest, PipeResponse, PipeStep, State};

/// Puts the result of an expression in place of a response.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) expression: Expression,
}

impl Query {
    fn apply(&self, data: &Value, deadline: Instant) -> Result<Value, Failure> {
        let _held = data.charge_expanded().map_err(|_| Failure::full())?;
        let found = self.expression.apply(data, deadline);
        let found = found.map_err(|fault| fault.failure(Kind::Script))?;
        Ok(match found {
            Value::Null => Value::Object(Object::new()),
            found => as_object(found),
        })
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
        response.data = self.apply(&response.data, request.deadline.into_std())?;
        Ok(())
    }
}
