//! Lists without brackets, and what their members say together.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::fold::Built;
use crate::lex::Kind;
use crate::parse::{Parser, refuse};
use crate::tree::{Joint, Value};
use crate::verdict::Reason;

impl<'a> Parser<'a> {
    /// A list without brackets; one member stands for itself.
    pub(super) fn list(&mut self) -> Built<Value> {
        let mut members = vec![self.item()?];
        let mut joint = Joint::Comma;
        loop {
            match self.separator()? {
                Some(found) => {
                    if found != Joint::Comma {
                        joint = found;
                    }
                }
                // `5 ft 3 in`
                None if matches!(members.last(), Some(Value::Quantity(..)))
                    && self.is_at_number() =>
                {
                    joint = Joint::And
                }
                None => break,
            }
            members.push(self.item()?);
            if members.len() > self.limits.members {
                return Err(Reason::AnswerTooLarge);
            }
        }
        if let [_] = members.as_slice() {
            return members.pop().ok_or(Reason::InternalDefect);
        }
        Ok(same_name(joint, members))
    }

    /// What separates two members: `,`, `;`, "and", "or", or several of these.
    fn separator(&mut self) -> Built<Option<Joint>> {
        let mut found = None;
        loop {
            let joint = match self.peek() {
                Some(Kind::Mark(',' | ';') | Kind::GroupComma | Kind::Quad) => Joint::Comma,
                Some(Kind::Word("and") | Kind::Mark('&') | Kind::Command("land")) => Joint::And,
                Some(Kind::Word("or") | Kind::Command("lor")) => Joint::Or,
                _ => break,
            };
            // A second comma is a missing member.
            let is_comma = matches!(self.peek(), Some(Kind::Mark(',' | ';') | Kind::GroupComma));
            if found == Some(Joint::Comma) && is_comma {
                return refuse();
            }
            found = match (found, joint) {
                (Some(known), Joint::Comma) => Some(known),
                (_, joint) => Some(joint),
            };
            self.bump();
        }
        if found.is_some() && self.is_at_end() {
            return refuse();
        }
        Ok(found)
    }

    /// Members of a bracket, up to what closes it.
    pub(super) fn members(&mut self, may_be_empty: bool) -> Built<Vec<Value>> {
        if may_be_empty && self.is_at_close() {
            return Ok(Vec::new());
        }
        let mut members = vec![self.item()?];
        while matches!(
            self.peek(),
            Some(Kind::Mark(',' | ';') | Kind::GroupComma | Kind::Quad)
        ) {
            self.bump();
            members.push(self.item()?);
            if members.len() > self.limits.members {
                return Err(Reason::AnswerTooLarge);
            }
        }
        Ok(members)
    }

    fn is_at_close(&self) -> bool {
        matches!(
            self.peek(),
            None | Some(
                Kind::Mark(')' | ']' | '}') | Kind::SetBrace('}') | Kind::Command("rangle")
            )
        )
    }
}

/// `x = 3, x = -3` and `x = 3, -3` bind one name to a list.
fn same_name(joint: Joint, members: Vec<Value>) -> Value {
    let mut first: Option<&String> = None;
    let mut is_same = true;
    for (index, member) in members.iter().enumerate() {
        match member {
            Value::Assign(name, _) => {
                is_same &=
                    first.is_none_or(|first| first == name) && (index == 0 || first.is_some());
                first = Some(name);
            }
            Value::Expr(_) | Value::Quantity(..) | Value::Group(..) => is_same &= index > 0,
            _ => is_same = false,
        }
    }
    let Some(name) = first.cloned().filter(|_| is_same) else {
        return Value::List(joint, members);
    };
    // `f(x) = x, x > 0` and `p = 5, 2` with one bound name stay what they are: only repeated
    // names or plain values join.
    let values = members
        .into_iter()
        .map(|member| match member {
            Value::Assign(_, value) => *value,
            other => other,
        })
        .collect();
    Value::Assign(name, alloc::boxed::Box::new(Value::List(joint, values)))
}
