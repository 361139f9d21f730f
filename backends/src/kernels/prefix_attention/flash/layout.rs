//! Which rows a row sees, and which a tile of rows does, as the kernels read it.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::super::PromptSpan;
use super::tile::TILE;

/// Tables of a packed batch.
#[derive(Debug)]
pub(in super::super) struct Layout {
    /// First row of the own segment, and first and end of the prompt before it, which is empty for a
    /// prompt itself, `[L, 3]`. A row sees the prompt, and its segment up to itself.
    pub(super) rows: Tensor<2, Int>,
    /// Of every [`TILE`] rows: first and end of all their prompts, the first of their segments, and
    /// the end of the rows that see them, `[ceil(L / TILE), 4]`.
    pub(super) tiles: Tensor<2, Int>,
}

/// One row of the first table, with the end of the rows that see it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Row {
    own: usize,
    prompt: [usize; 2],
    last: usize,
}

impl Layout {
    pub(in super::super) fn new(spans: &[PromptSpan], device: &Device) -> Self {
        let all = rows(spans);
        let rows: Vec<[usize; 3]> = all
            .iter()
            .map(|it| [it.own, it.prompt[0], it.prompt[1]])
            .collect();
        let tiles: Vec<[usize; 4]> = all.chunks(TILE).map(union).collect();
        Self {
            rows: table(&rows, device),
            tiles: table(&tiles, device),
        }
    }
}

fn rows(spans: &[PromptSpan]) -> Vec<Row> {
    let mut rows = Vec::new();
    for span in spans {
        let first = rows.len();
        let end = first + span.num_rows();
        let prompt = [first, first + span.num_prompt_rows];
        let own = Row {
            own: first,
            prompt: [first; 2],
            last: end,
        };
        rows.extend(vec![own; span.num_prompt_rows]);
        for &count in &span.completion_rows {
            let own = rows.len();
            let row = Row {
                own,
                prompt,
                last: own + count,
            };
            rows.extend(vec![row; count]);
        }
    }
    rows
}

/// What some of the rows see, and who sees some of them.
fn union(rows: &[Row]) -> [usize; 4] {
    let own = rows.iter().map(|row| row.own).min().unwrap_or(0);
    let with_prompt = || rows.iter().filter(|row| row.prompt[0] < row.prompt[1]);
    let first = with_prompt().map(|row| row.prompt[0]).min();
    let end = with_prompt().map(|row| row.prompt[1]).max();
    let last = rows.iter().map(|row| row.last).max().unwrap_or(0);
    // In this order, for a walk from the first: a prompt behind the first own row is covered by it.
    let first = first.unwrap_or(own).min(own);
    [first, end.unwrap_or(first), own, last]
}

fn table<const N: usize>(rows: &[[usize; N]], device: &Device) -> Tensor<2, Int> {
    let values: Vec<i32> = rows.iter().flatten().map(|&place| place as i32).collect();
    Tensor::from_data(TensorData::new(values, [rows.len(), N]), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(num_prompt_rows: usize, completion_rows: &[usize]) -> PromptSpan {
        PromptSpan {
            num_prompt_rows,
            completion_rows: completion_rows.to_vec(),
        }
    }

    #[test]
    fn a_row_sees_its_prompt_and_its_own_rows() {
        let found = rows(&[span(2, &[1, 0, 2]), span(1, &[1])]);
        let row = |own, prompt, last| Row { own, prompt, last };
        let prompt = row(0, [0, 0], 5);
        assert_eq!(found[..2], [prompt, prompt]);
        assert_eq!(found[2], row(2, [0, 2], 3));
        assert_eq!(found[3..5], [row(3, [0, 2], 5); 2]);
        assert_eq!(found[5..], [row(5, [5, 5], 7), row(6, [5, 6], 7)]);
    }

    #[test]
    fn a_tile_covers_what_its_rows_see_and_who_sees_them() {
        let spans = [span(70, &[3, 0, 66]), span(2, &[5]), span(1, &[])];
        let all = rows(&spans);
        for (tile, rows) in all.chunks(TILE).enumerate() {
            let [first, end, own, last] = union(rows);
            assert!(first <= own && first <= end);
            for (offset, row) in rows.iter().enumerate() {
                let place = tile * TILE + offset;
                let is_seen =
                    |key: usize| (first..end).contains(&key) || (own..=place).contains(&key);
                assert!(
                    (row.prompt[0]..row.prompt[1])
                        .chain(row.own..=place)
                        .all(is_seen)
                );
                let sees = |other: &Row| {
                    (other.prompt[0]..other.prompt[1]).contains(&place) || other.own == row.own
                };
                let seen_by = (place..all.len()).filter(|&query| sees(&all[query]));
                assert!(seen_by.max().is_none_or(|query| query < last));
            }
        }
    }
}
