//! Numbers: integers truncated to 64 bits, and decimals.

use num_bigint::BigInt;

use super::Kind::{Any, Float, Int, Text};
use super::{Call, Function, Outcome, fixed, int, printed, string, variadic};
use crate::config::template::literal;
use crate::config::template::value::Value;

pub(super) static TABLE: &[Function] = &[
    fixed("int", &[Any], |_, arguments| {
        Ok(Value::Int(to_int(&arguments[0])))
    }),
    fixed("int64", &[Any], |_, arguments| {
        Ok(Value::Int64(to_int(&arguments[0])))
    }),
    fixed("float64", &[Any], |_, arguments| {
        Ok(Value::Float(to_float(&arguments[0])))
    }),
    fixed("atoi", &[Text], |_, arguments| {
        Ok(Value::Int(string(&arguments, 0).parse().unwrap_or(0)))
    }),
    fixed("toDecimal", &[Any], |call, arguments| {
        let text = String::from_utf8_lossy(&printed(call, &arguments[0])?).into_owned();
        Ok(Value::Int64(i64::from_str_radix(&text, 8).unwrap_or(0)))
    }),
    variadic("add", &[Any], |_, arguments| {
        Ok(Value::Int64(
            arguments
                .iter()
                .fold(0, |sum, value| sum.wrapping_add(to_int(value))),
        ))
    }),
    fixed("add1", &[Any], |_, arguments| {
        Ok(Value::Int64(to_int(&arguments[0]).wrapping_add(1)))
    }),
    fixed("sub", &[Any, Any], |_, arguments| {
        Ok(Value::Int64(
            to_int(&arguments[0]).wrapping_sub(to_int(&arguments[1])),
        ))
    }),
    variadic("mul", &[Any, Any], |_, arguments| {
        Ok(Value::Int64(arguments.iter().fold(1, |product, value| {
            product.wrapping_mul(to_int(value))
        })))
    }),
    fixed("div", &[Any, Any], |_, arguments| {
        divided(&arguments, i64::wrapping_div)
    }),
    fixed("mod", &[Any, Any], |_, arguments| {
        divided(&arguments, i64::wrapping_rem)
    }),
    variadic("max", &[Any, Any], |_, arguments| {
        Ok(extreme(&arguments, i64::max))
    }),
    variadic("biggest", &[Any, Any], |_, arguments| {
        Ok(extreme(&arguments, i64::max))
    }),
    variadic("min", &[Any, Any], |_, arguments| {
        Ok(extreme(&arguments, i64::min))
    }),
    variadic("maxf", &[Any, Any], |_, arguments| {
        Ok(extreme_float(&arguments, f64::max))
    }),
    variadic("minf", &[Any, Any], |_, arguments| {
        Ok(extreme_float(&arguments, f64::min))
    }),
    fixed("ceil", &[Any], |_, arguments| {
        Ok(Value::Float(to_float(&arguments[0]).ceil()))
    }),
    fixed("floor", &[Any], |_, arguments| {
        Ok(Value::Float(to_float(&arguments[0]).floor()))
    }),
    variadic("round", &[Any, Int, Float], round),
    variadic("addf", &[Any], |_, arguments| {
        Ok(decimal(Decimal::of(0.0), &arguments, Decimal::plus))
    }),
    fixed("add1f", &[Any], |_, arguments| {
        Ok(decimal(Decimal::of(1.0), &arguments, Decimal::plus))
    }),
    variadic("subf", &[Any, Any], |_, arguments| {
        Ok(decimal_from_first(&arguments, Decimal::minus))
    }),
    variadic("mulf", &[Any, Any], |_, arguments| {
        Ok(decimal_from_first(&arguments, Decimal::times))
    }),
    variadic("divf", &[Any, Any], |_, arguments| {
        if arguments[1..].iter().any(|value| to_float(value) == 0.0) {
            return Err("decimal division by 0".to_owned());
        }
        Ok(decimal_from_first(&arguments, Decimal::over))
    }),
    fixed("until", &[Int], |call, arguments| {
        let count = int(&arguments, 0);
        steps(call, 0, count, if count < 0 { -1 } else { 1 }).map(Value::ints)
    }),
    fixed("untilStep", &[Int, Int, Int], |call, arguments| {
        steps(
            call,
            int(&arguments, 0),
            int(&arguments, 1),
            int(&arguments, 2),
        )
        .map(Value::ints)
    }),
    variadic("seq", &[Int], seq),
];

/// Converts any value to an integer: floats are truncated, strings are parsed as Go literals, and an invalid value is
/// 0.
pub(super) fn to_int(value: &Value) -> i64 {
    match value {
        Value::Bool(value) => i64::from(*value),
        Value::Int(value) | Value::Int64(value) => *value,
        Value::Float(value) => truncated(*value),
        Value::Text(text) => std::str::from_utf8(text)
            .ok()
            .and_then(text_to_int)
            .unwrap_or(0),
        _ => 0,
    }
}

/// As Go converts it on x86-64: what does not fit is the least integer.
fn truncated(value: f64) -> i64 {
    const END: f64 = 9_223_372_036_854_775_808.0;
    match value {
        value if (-END..END).contains(&value) => value as i64,
        _ => i64::MIN,
    }
}

fn text_to_int(text: &str) -> Option<i64> {
    let whole = match text.split_once('.') {
        Some((whole, zeros)) if !zeros.is_empty() && zeros.bytes().all(|byte| byte == b'0') => {
            whole
        }
        _ => text,
    };
    literal::int(whole)
}

fn to_float(value: &Value) -> f64 {
    match value {
        Value::Bool(value) => f64::from(u8::from(*value)),
        Value::Int(value) | Value::Int64(value) => *value as f64,
        Value::Float(value) => *value,
        Value::Text(text) => std::str::from_utf8(text)
            .ok()
            .and_then(literal::float)
            .unwrap_or(0.0),
        _ => 0.0,
    }
}

fn divided(arguments: &[Value], operation: fn(i64, i64) -> i64) -> Outcome {
    let (left, right) = (to_int(&arguments[0]), to_int(&arguments[1]));
    if right == 0 {
        return Err("runtime error: integer divide by zero".to_owned());
    }
    Ok(Value::Int64(operation(left, right)))
}

fn extreme(arguments: &[Value], choose: fn(i64, i64) -> i64) -> Value {
    Value::Int64(arguments.iter().map(to_int).reduce(choose).unwrap_or(0))
}

fn extreme_float(arguments: &[Value], choose: fn(f64, f64) -> f64) -> Value {
    Value::Float(arguments.iter().map(to_float).reduce(choose).unwrap_or(0.0))
}

fn round(_: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let on = arguments.get(2).map_or(0.5, to_float);
    let power = 10_f64.powf(int(&arguments, 1) as f64);
    let digits = power * to_float(&arguments[0]);
    let rounded = if digits.fract() >= on {
        digits.ceil()
    } else {
        digits.floor()
    };
    Ok(Value::Float(rounded / power))
}

fn steps(call: &mut Call<'_>, start: i64, stop: i64, step: i64) -> Result<Vec<i64>, String> {
    let up = stop >= start;
    if step == 0 || (up != (step > 0)) {
        return Ok(Vec::new());
    }
    let count = start.abs_diff(stop).div_ceil(step.unsigned_abs());
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    call.make(count.saturating_mul(size_of::<Value>()))?;
    Ok((0..count as i64)
        .map(|index| start.wrapping_add(index.wrapping_mul(step)))
        .collect())
}

fn seq(call: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let numbers: Vec<i64> = (0..arguments.len())
        .map(|index| int(&arguments, index))
        .collect();
    let direction = |start: i64, end: i64| if end < start { -1 } else { 1 };
    let (start, end, step) = match numbers[..] {
        [end] => (1, end, direction(1, end)),
        [start, end] => (start, end, direction(start, end)),
        [start, step, end] => (start, end, step),
        _ => return Ok(Value::text("")),
    };
    if numbers.len() == 3 && end < start && step > 0 {
        return Ok(Value::text(""));
    }
    let past = end.saturating_add(direction(start, end));
    let numbers = steps(call, start, past, step)?;
    let texts: Vec<String> = numbers.iter().map(i64::to_string).collect();
    Ok(Value::text(texts.join(" ")))
}

fn decimal(
    start: Decimal,
    arguments: &[Value],
    operation: fn(Decimal, Decimal) -> Decimal,
) -> Value {
    let result = arguments.iter().fold(start, |left, right| {
        operation(left, Decimal::of(to_float(right)))
    });
    Value::Float(result.float())
}

fn decimal_from_first(arguments: &[Value], operation: fn(Decimal, Decimal) -> Decimal) -> Value {
    decimal(
        Decimal::of(to_float(&arguments[0])),
        &arguments[1..],
        operation,
    )
}

/// The number of decimal places that a division keeps.
const DIVISION_PLACES: u32 = 16;

/// An exact decimal: `digits / 10^places`.
struct Decimal {
    digits: BigInt,
    places: u32,
}

impl Decimal {
    /// The shortest decimal that parses back to `value`.
    fn of(value: f64) -> Decimal {
        let text = if value.is_finite() {
            format!("{value}")
        } else {
            "0".to_owned()
        };
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let digits = format!("{whole}{fraction}").parse().unwrap_or_default();
        Decimal {
            digits,
            places: fraction.len() as u32,
        }
    }

    fn at(self, places: u32) -> BigInt {
        self.digits * BigInt::from(10).pow(places - self.places)
    }

    fn plus(self, other: Decimal) -> Decimal {
        let places = self.places.max(other.places);
        Decimal {
            digits: self.at(places) + other.at(places),
            places,
        }
    }

    fn minus(self, other: Decimal) -> Decimal {
        let places = self.places.max(other.places);
        Decimal {
            digits: self.at(places) - other.at(places),
            places,
        }
    }

    fn times(self, other: Decimal) -> Decimal {
        Decimal {
            places: self.places + other.places,
            digits: self.digits * other.digits,
        }
    }

    /// Rounds half away from zero. The divisor is not zero.
    fn over(self, other: Decimal) -> Decimal {
        let places = self.places.max(other.places);
        let (left, right) = (self.at(places), other.at(places));
        let scaled = left * BigInt::from(10).pow(DIVISION_PLACES + 1);
        let quotient = scaled / right;
        let half: BigInt = if quotient.sign() == num_bigint::Sign::Minus {
            BigInt::from(-5)
        } else {
            BigInt::from(5)
        };
        Decimal {
            digits: (quotient + half) / 10,
            places: DIVISION_PLACES,
        }
    }

    fn float(&self) -> f64 {
        format!("{}e-{}", self.digits, self.places)
            .parse()
            .unwrap_or(0.0)
    }
}
