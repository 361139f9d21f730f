//! Environments that display a formula in rows: `align` and its kin around a whole answer.

use alloc::vec::Vec;

use crate::lex::{Kind, Token};

/// Environments whose rows are steps of one chain, or members of a list.
const ENVIRONMENTS: &[&str] = &[
    "equation",
    "align",
    "aligned",
    "gather",
    "gathered",
    "split",
    "multline",
    "flalign",
    "eqnarray",
    "displaymath",
];

/// Takes the environments around a whole answer away. A row that begins with a relation goes on
/// with the chain of the row before it, any other is a member of a list; one that begins with a
/// minus sign may be either, and stays for the parser to refuse.
pub(super) fn unwrap(tokens: &mut Vec<Token<'_>>) {
    while let [first, inner @ .., last] = tokens.as_slice()
        && let (Kind::Begin(open), Kind::End(close)) = (first.kind, last.kind)
        && open == close
        && ENVIRONMENTS.contains(&open.trim_end_matches('*'))
    {
        *tokens = in_one_row(inner);
    }
}

fn in_one_row<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    let mut result: Vec<Token<'a>> = Vec::with_capacity(tokens.len());
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Begin(_) => depth = depth.saturating_add(1),
            Kind::End(_) => depth = depth.saturating_sub(1),
            Kind::Mark('&') if depth == 0 => continue,
            Kind::Row if depth == 0 => {
                let behind = tokens.get(index.saturating_add(1)..).unwrap_or(&[]);
                let next = behind.iter().find(|token| token.kind != Kind::Mark('&'));
                let is_separated = matches!(
                    result.last().map(|token| token.kind),
                    None | Some(Kind::Mark(',' | ';'))
                );
                match next.map(|token| token.kind) {
                    None => {}
                    Some(kind) if goes_on(kind) || is_separated => {}
                    Some(Kind::Mark('-')) => result.push(*token),
                    Some(_) => result.push(Token {
                        kind: Kind::Mark(','),
                        ..*token
                    }),
                }
                continue;
            }
            _ => {}
        }
        result.push(*token);
    }
    result
}

/// True for what continues the row before: a relation or a plus sign.
fn goes_on(kind: Kind<'_>) -> bool {
    matches!(
        kind,
        Kind::Mark('=' | '<' | '>' | '+')
            | Kind::Command("le" | "ge" | "ne" | "approx" | "equiv" | "cdot" | "times")
    )
}
