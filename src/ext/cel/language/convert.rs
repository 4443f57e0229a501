//! Converts a value to another type, as cel-go does.

use super::eval::{Budget, Failed};
use super::operators::overflow;
use super::time;
use super::tree::Function;
use super::value::Value;

type Given<'a> = Result<Value<'a>, Failed>;

/// `int()`, `string()`, `timestamp()` and the like.
pub(super) fn convert<'a>(function: Function, value: &Value<'a>, budget: &Budget) -> Given<'a> {
    if let Value::String(text) = value {
        budget.spend_bytes(text.len())?;
    }
    match function {
        Function::ToInt => int(value),
        Function::ToUint => uint(value),
        Function::ToDouble => double(value),
        Function::ToString => string(value, budget),
        Function::ToBytes => bytes(value, budget),
        Function::ToBool => bool(value),
        Function::ToTimestamp => timestamp(value),
        Function::ToDuration => duration(value),
        _ => Err(Failed::NO_OVERLOAD),
    }
}

/// The text itself is omitted: it may be a credential, and the message is logged.
fn conversion(to: &str) -> Failed {
    Failed::of(format!("type conversion error from 'string' to '{to}'"))
}

fn int<'a>(value: &Value<'a>) -> Given<'a> {
    // All numbers below this one fit into an i64.
    const LARGEST: f64 = i64::MAX as f64;
    Ok(Value::Int(match value {
        Value::Int(number) => *number,
        Value::Uint(number) => i64::try_from(*number).map_err(|_| overflow("integer"))?,
        Value::Double(number) if number.abs() < LARGEST => *number as i64,
        Value::Double(_) => return Err(overflow("integer")),
        Value::String(text) => text.as_str().parse().map_err(|_| conversion("int"))?,
        Value::Timestamp(time) => time.timestamp(),
        Value::Duration(nanos) => *nanos,
        _ => return Err(Failed::NO_OVERLOAD),
    }))
}

fn uint<'a>(value: &Value<'a>) -> Given<'a> {
    const LARGEST: f64 = u64::MAX as f64;
    let range = || overflow("unsigned integer");
    Ok(Value::Uint(match value {
        Value::Uint(number) => *number,
        Value::Int(number) => u64::try_from(*number).map_err(|_| range())?,
        Value::Double(number) if *number >= 0.0 && *number < LARGEST => *number as u64,
        Value::Double(_) => return Err(range()),
        Value::String(text) => text.as_str().parse().map_err(|_| conversion("uint"))?,
        _ => return Err(Failed::NO_OVERLOAD),
    }))
}

fn double<'a>(value: &Value<'a>) -> Given<'a> {
    Ok(Value::Double(match value {
        Value::Double(number) => *number,
        Value::Int(number) => *number as f64,
        Value::Uint(number) => *number as f64,
        Value::String(text) => match text.as_str().parse::<f64>() {
            // As in Go, a number that is too large is an error.
            Ok(number)
                if number.is_finite() || !text.as_str().contains(|c: char| c.is_ascii_digit()) =>
            {
                number
            }
            _ => return Err(conversion("double")),
        },
        _ => return Err(Failed::NO_OVERLOAD),
    }))
}

fn string<'a>(value: &Value<'a>, budget: &Budget) -> Given<'a> {
    Ok(match value {
        Value::String(_) => value.clone(),
        Value::Bool(yes) => Value::text(if *yes { "true" } else { "false" }),
        Value::Int(number) => Value::made(number.to_string()),
        Value::Uint(number) => Value::made(number.to_string()),
        Value::Double(number) => Value::made(shortest(*number)),
        Value::Bytes(bytes) => {
            budget.spend_bytes(bytes.len())?;
            let text = std::str::from_utf8(bytes)
                .map_err(|_| Failed::of("invalid UTF-8 in bytes, cannot convert to string"))?;
            budget.make_text(text.len())?;
            Value::made(text)
        }
        Value::Timestamp(time) => Value::made(time::nano_text(time)),
        Value::Duration(nanos) => Value::made(time::seconds_text(*nanos)),
        _ => return Err(Failed::NO_OVERLOAD),
    })
}

/// As Go's `%g`.
fn shortest(number: f64) -> String {
    if !number.is_finite() {
        return match number {
            nan if nan.is_nan() => "NaN".to_owned(),
            infinite if infinite > 0.0 => "+Inf".to_owned(),
            _ => "-Inf".to_owned(),
        };
    }
    let scientific = format!("{number:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    match exponent.parse::<i32>() {
        Ok(small) if (-4..6).contains(&small) && number != 0.0 => number.to_string(),
        Ok(0) => digits.to_owned(),
        Ok(exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        Err(_) => scientific,
    }
}

fn bytes<'a>(value: &Value<'a>, budget: &Budget) -> Given<'a> {
    match value {
        Value::Bytes(_) => Ok(value.clone()),
        Value::String(text) => {
            budget.make_text(text.len())?;
            Ok(Value::Bytes(text.as_str().as_bytes().into()))
        }
        _ => Err(Failed::NO_OVERLOAD),
    }
}

fn bool<'a>(value: &Value<'a>) -> Given<'a> {
    let Value::String(text) = value else {
        return match value {
            Value::Bool(_) => Ok(value.clone()),
            _ => Err(Failed::NO_OVERLOAD),
        };
    };
    match text.as_str() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
        _ => Err(conversion("bool")),
    }
}

fn timestamp<'a>(value: &Value<'a>) -> Given<'a> {
    match value {
        Value::Timestamp(_) => Ok(value.clone()),
        Value::Int(seconds) => time::of_seconds(*seconds),
        Value::String(text) => time::parse(text.as_str()),
        _ => Err(Failed::NO_OVERLOAD),
    }
}

fn duration<'a>(value: &Value<'a>) -> Given<'a> {
    match value {
        Value::Duration(_) => Ok(value.clone()),
        Value::Int(nanos) => Ok(Value::Duration(*nanos)),
        Value::String(text) => time::parse_duration(text.as_str())
            .map(Value::Duration)
            .ok_or_else(|| conversion("google.protobuf.Duration")),
        _ => Err(Failed::NO_OVERLOAD),
    }
}
