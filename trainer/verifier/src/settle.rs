//! What a parsed answer says once its signs are expanded and its chains are followed.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::fold::{Builder, Built};
use crate::scalar::Comparer;
use crate::tree::{Expr, Joint, Relation, Value};
use crate::verdict::Reason;

/// Expands `±` and resolves chains of equalities, everywhere in a value.
pub(crate) fn settle(
    value: Value,
    builder: &mut Builder,
    comparer: &mut Comparer<'_>,
    approximation: &mut Option<Value>,
) -> Built<Value> {
    let value = spread(value, builder)?;
    resolve(value, comparer, approximation)
}

fn has_plus_minus(value: &Value) -> bool {
    let in_expr =
        |expr: &Expr| crate::points::any(expr, &|part| matches!(part, Expr::PlusMinus(..)));
    match value {
        Value::Expr(expr) | Value::Quantity(expr, _) | Value::Percent(expr) => in_expr(expr),
        Value::Ratio(terms) => terms.iter().any(in_expr),
        Value::Group(_, members, _) | Value::Set(members) | Value::List(_, members) => {
            members.iter().any(has_plus_minus)
        }
        Value::SetOp(_, a, b) | Value::Conditional(a, b) => has_plus_minus(a) || has_plus_minus(b),
        Value::Matrix(rows) => rows.iter().flatten().any(has_plus_minus),
        Value::Chain(first, rest) => {
            has_plus_minus(first) || rest.iter().any(|(_, side)| has_plus_minus(side))
        }
        Value::Assign(_, inner) | Value::Quantified(_, inner) => has_plus_minus(inner),
        Value::Text(_)
        | Value::Choice(_)
        | Value::NumberSet(_)
        | Value::Time(..)
        | Value::Based(..) => false,
    }
}

/// Replaces each value with `±` by its two values.
fn spread(value: Value, builder: &mut Builder) -> Built<Value> {
    if !has_plus_minus(&value) {
        return Ok(value);
    }
    Ok(match value {
        Value::Set(members) => Value::Set(spread_members(members, builder)?),
        Value::List(joint, members) => Value::List(joint, spread_members(members, builder)?),
        Value::Assign(name, inner) => Value::Assign(name, Box::new(spread(*inner, builder)?)),
        Value::Conditional(inner, condition) => {
            Value::Conditional(Box::new(spread(*inner, builder)?), condition)
        }
        other => {
            let upper = signed(&other, true, builder)?;
            let lower = signed(&other, false, builder)?;
            Value::List(Joint::Comma, vec![upper, lower])
        }
    })
}

fn spread_members(members: Vec<Value>, builder: &mut Builder) -> Built<Vec<Value>> {
    let mut result = Vec::new();
    for member in members {
        match spread(member, builder)? {
            Value::List(_, parts) => result.extend(parts),
            other => result.push(other),
        }
    }
    Ok(result)
}

/// The value with every upper or every lower sign.
fn signed(value: &Value, is_upper: bool, builder: &mut Builder) -> Built<Value> {
    let mut each = |members: &[Value]| -> Built<Vec<Value>> {
        members
            .iter()
            .map(|member| signed(member, is_upper, builder))
            .collect()
    };
    Ok(match value {
        Value::Group(open, members, close) => Value::Group(*open, each(members)?, *close),
        Value::Set(members) => Value::Set(each(members)?),
        Value::List(joint, members) => Value::List(*joint, each(members)?),
        Value::Matrix(rows) => {
            let rows: Built<Vec<Vec<Value>>> = rows.iter().map(|row| each(row)).collect();
            Value::Matrix(rows?)
        }
        Value::Chain(first, rest) => {
            let first = signed(first, is_upper, builder)?;
            let mut sides = Vec::new();
            for (relation, side) in rest {
                sides.push((*relation, signed(side, is_upper, builder)?));
            }
            Value::Chain(Box::new(first), sides)
        }
        Value::SetOp(operation, a, b) => Value::SetOp(
            *operation,
            Box::new(signed(a, is_upper, builder)?),
            Box::new(signed(b, is_upper, builder)?),
        ),
        Value::Assign(name, inner) => {
            Value::Assign(name.clone(), Box::new(signed(inner, is_upper, builder)?))
        }
        Value::Quantified(name, inner) => {
            Value::Quantified(name.clone(), Box::new(signed(inner, is_upper, builder)?))
        }
        Value::Conditional(a, b) => Value::Conditional(
            Box::new(signed(a, is_upper, builder)?),
            Box::new(signed(b, is_upper, builder)?),
        ),
        Value::Expr(expr) => Value::Expr(signed_expr(expr, is_upper, builder)?),
        Value::Quantity(expr, unit) => {
            Value::Quantity(signed_expr(expr, is_upper, builder)?, unit.clone())
        }
        Value::Percent(expr) => Value::Percent(signed_expr(expr, is_upper, builder)?),
        Value::Ratio(terms) => {
            let terms: Built<Vec<Expr>> = terms
                .iter()
                .map(|term| signed_expr(term, is_upper, builder))
                .collect();
            Value::Ratio(terms?)
        }
        other => other.clone(),
    })
}

fn signed_expr(expr: &Expr, is_upper: bool, builder: &mut Builder) -> Built<Expr> {
    builder.budget.charge(60)?;
    Ok(match expr {
        Expr::PlusMinus(is_plus, inner) => {
            let inner = signed_expr(inner, is_upper, builder)?;
            if *is_plus == is_upper {
                inner
            } else {
                builder.negative(inner)?
            }
        }
        Expr::Sum(terms) => {
            let terms: Built<Vec<Expr>> = terms
                .iter()
                .map(|term| signed_expr(term, is_upper, builder))
                .collect();
            builder.sum(terms?)?
        }
        Expr::Product(factors) => {
            let mut product = crate::fold::number(1);
            for factor in factors {
                let factor = signed_expr(factor, is_upper, builder)?;
                product = builder.product(product, factor)?;
            }
            product
        }
        Expr::Power(base, exponent) => {
            let base = signed_expr(base, is_upper, builder)?;
            let exponent = signed_expr(exponent, is_upper, builder)?;
            builder.power(base, exponent)?
        }
        Expr::Apply(function, arguments) => {
            let arguments: Built<Vec<Expr>> = arguments
                .iter()
                .map(|argument| signed_expr(argument, is_upper, builder))
                .collect();
            builder.apply(function.clone(), arguments?)?
        }
        other => other.clone(),
    })
}

/// Follows chains of equalities to the value they end in.
fn resolve(
    value: Value,
    comparer: &mut Comparer<'_>,
    approximation: &mut Option<Value>,
) -> Built<Value> {
    Ok(match value {
        Value::Chain(first, rest) => chain(*first, rest, comparer, approximation)?,
        Value::Assign(name, inner) => match *inner {
            Value::Chain(first, rest) => bound(name, *first, rest, comparer, approximation)?,
            other => named(name, resolve(other, comparer, approximation)?),
        },
        Value::List(joint, members) => {
            let mut resolved = Vec::new();
            for member in members {
                resolved.push(resolve(member, comparer, &mut None)?);
            }
            Value::List(joint, resolved)
        }
        Value::Conditional(inner, condition) => Value::Conditional(
            Box::new(resolve(*inner, comparer, &mut None)?),
            Box::new(resolve(*condition, comparer, &mut None)?),
        ),
        other => other,
    })
}

/// `(x, y) = (1, 2)` binds each name to its part.
fn named(name: String, value: Value) -> Value {
    let parts: Vec<&str> = name.split(',').collect();
    if let (Value::Group('(', members, ')'), true) =
        (&value, parts.len() > 1 && !name.contains('('))
        && members.len() == parts.len()
    {
        return value;
    }
    Value::Assign(name, Box::new(value))
}

/// True if the members that are constants all have one value.
fn agree(sides: &[&Value], comparer: &mut Comparer<'_>) -> bool {
    let mut known: Option<&Expr> = None;
    for side in sides {
        let expr = match side {
            Value::Expr(expr) => expr,
            Value::Quantity(expr, _) => expr,
            _ => continue,
        };
        if !Comparer::is_constant(expr) {
            continue;
        }
        if let Some(known) = known {
            let is_close =
                |comparer: &mut Comparer<'_>| comparer.exprs(known, expr).correct() == Some(false);
            if is_close(comparer) && !is_rounded(known, expr, comparer) {
                return false;
            }
        }
        known = Some(expr);
    }
    true
}

/// In a chain a decimal may be rounded to few digits: `10/3 = 3.33`.
fn is_rounded(a: &Expr, b: &Expr, comparer: &mut Comparer<'_>) -> bool {
    let mut check = |decimal: &Expr, exact: &Expr| match (decimal, exact.exact()) {
        (Expr::Decimal(decimal), Some(exact)) => {
            decimal.significant >= 3 && decimal.stands_for(exact)
        }
        (Expr::Decimal(decimal), None) => {
            let mut longer = decimal.clone();
            longer.significant = 99;
            decimal.significant >= 3
                && comparer.exprs(&Expr::Decimal(longer), exact).correct() == Some(true)
        }
        _ => false,
    };
    check(b, a) || check(a, b)
}

/// A name bound to a chain: the last member counts, the one before `≈` where that is written.
fn bound(
    name: String,
    first: Value,
    rest: Vec<(Relation, Value)>,
    comparer: &mut Comparer<'_>,
    approximation: &mut Option<Value>,
) -> Built<Value> {
    let value = chain(first, rest, comparer, approximation)?;
    if let Some(value) = approximation.take() {
        *approximation = Some(named(name.clone(), value));
    }
    Ok(match value {
        Value::Assign(_, inner) => named(name, *inner),
        other => named(name, other),
    })
}

fn chain(
    first: Value,
    rest: Vec<(Relation, Value)>,
    comparer: &mut Comparer<'_>,
    approximation: &mut Option<Value>,
) -> Built<Value> {
    let is_equality =
        |relation: Relation| matches!(relation, Relation::Equal | Relation::Approximately);
    // `x \in S` binds x to the set.
    if let (Value::Expr(expr), [(Relation::In, set)]) = (&first, rest.as_slice())
        && let Expr::Name(name) = expr
    {
        return Ok(Value::Assign(name.clone(), Box::new(set.clone())));
    }
    if !rest.iter().all(|(relation, _)| is_equality(*relation)) {
        return Ok(Value::Chain(Box::new(first), rest));
    }
    let exact: Vec<&Value> = core::iter::once(&first)
        .chain(
            rest.iter()
                .take_while(|(relation, _)| *relation == Relation::Equal)
                .map(|(_, side)| side),
        )
        .collect();
    if !agree(&exact, comparer) {
        return Err(Reason::InconsistentAnswer);
    }
    let constants = exact.iter().filter(|side| is_constant(side)).count();
    let last = (*exact.last().unwrap_or(&&first)).clone();
    let is_first_name = matches!(&first, Value::Expr(Expr::Name(_)));
    let approximate = rest
        .iter()
        .rfind(|(relation, _)| *relation == Relation::Approximately);
    if let Some((_, value)) = approximate {
        if exact.len() == 1 && !is_constant(&first) {
            return Ok(match first {
                Value::Expr(Expr::Name(name)) => Value::Assign(name, Box::new(value.clone())),
                _ => value.clone(),
            });
        }
        *approximation = Some(value.clone());
    }
    match (exact.len(), constants) {
        // Two sides with a variable: an equation.
        (2, 0 | 1) if !is_first_name && approximate.is_none() && is_equation(&first, &last) => {
            Ok(Value::Chain(Box::new(first), rest))
        }
        _ => Ok(match first {
            Value::Expr(Expr::Name(name)) => named(name, last),
            _ => last,
        }),
    }
}

fn is_equation(a: &Value, b: &Value) -> bool {
    !matches!(a, Value::Expr(_)) || matches!(b, Value::Expr(_))
}

fn is_constant(value: &Value) -> bool {
    match value {
        Value::Expr(expr) | Value::Quantity(expr, _) => Comparer::is_constant(expr),
        _ => false,
    }
}
