//! Where a CSV file holds texts of no letters (`""`), which are not the NULLs that bare empty fields are.
//!
//! Arrow's reader gives NULL for both. This one goes before it and notes the places, so that they can be put right in what it gave.

use std::collections::VecDeque;

use arrow::array::{Array, ArrayRef, AsArray, BooleanBufferBuilder, StringArray};
use arrow::buffer::NullBuffer;
use arrow::error::ArrowError;
use memchr::{memchr, memchr3};

use super::BYTE_ORDER_MARK;

/// Follows one file, the header line included.
#[derive(Debug, Default)]
pub(in super::super) struct Empties {
    state: State,
    begun: bool,
    /// The row and the field reached.
    row: u64,
    field: usize,
    /// Rows and fields that are quoted and empty, in the file's order; the header line is row 0.
    found: VecDeque<(u64, usize)>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a row; line ends here belong to no row.
    #[default]
    Between,
    /// At the beginning of a field.
    Beginning,
    Bare,
    /// Behind the opening quote.
    Opened,
    /// Behind a second quote at once.
    Empty,
    Inside,
    /// Behind a quote in a quoted field.
    Half,
}

impl Empties {
    /// Passes over the next piece of the file.
    pub(in super::super) fn follow(&mut self, mut input: &[u8]) {
        if !self.begun {
            self.begun = true;
            input = input.strip_prefix(BYTE_ORDER_MARK).unwrap_or(input);
        }
        while let Some(&byte) = input.first() {
            let skipped = match self.state {
                State::Bare => memchr3(b',', b'\n', b'\r', input),
                State::Inside => memchr(b'"', input),
                _ => Some(0),
            };
            let Some(at) = skipped else { return };
            let byte = if at == 0 { byte } else { input[at] };
            input = &input[at + 1..];
            self.state = self.after(byte);
        }
    }

    fn after(&mut self, byte: u8) -> State {
        match (self.state, byte) {
            (State::Between | State::Beginning, b'"') => State::Opened,
            (State::Opened, b'"') => State::Empty,
            (State::Empty, b'"') => State::Inside,
            (State::Half, b'"') | (State::Opened, _) => State::Inside,
            (State::Inside, _) => State::Half,
            (State::Between, b'\n' | b'\r') => State::Between,
            (_, b',') => {
                self.note();
                self.field += 1;
                State::Beginning
            }
            (_, b'\n' | b'\r') => {
                self.end_row();
                State::Between
            }
            _ => State::Bare,
        }
    }

    /// The file has ended, and with it its last row.
    pub(in super::super) fn end(&mut self) {
        if self.state != State::Between {
            self.end_row();
            self.state = State::Between;
        }
    }

    fn note(&mut self) {
        if self.state == State::Empty {
            self.found.push_back((self.row, self.field));
        }
    }

    fn end_row(&mut self) {
        self.note();
        (self.row, self.field) = (self.row + 1, 0);
    }

    /// Rows that have ended, the header line among them.
    pub(in super::super) fn rows(&self) -> u64 {
        self.row
    }

    /// Hands out what was found in the rows before one, as rows counted from another, and fields.
    pub(in super::super) fn before(&mut self, row: u64, from: u64) -> Vec<(usize, usize)> {
        let here = self.found.partition_point(|(at, _)| *at < row);
        let place = |(at, field): (u64, usize)| Some((usize::try_from(at.checked_sub(from)?).ok()?, field));
        self.found.drain(..here).filter_map(place).collect()
    }
}

/// Makes NULLs of these rows the empty texts that they are.
///
/// # Errors
/// When there is no NULL: the places are not those of this column.
pub(in super::super) fn put(column: &ArrayRef, rows: &[usize]) -> Result<ArrayRef, ArrowError> {
    let wrong = || ArrowError::CsvError("an empty text is not where it was".to_owned());
    let texts = column.as_string_opt::<i32>().ok_or_else(wrong)?;
    let mut valid = BooleanBufferBuilder::new(texts.len());
    match texts.nulls() {
        Some(nulls) => valid.append_buffer(nulls.inner()),
        None => valid.append_n(texts.len(), true),
    }
    for row in rows {
        if *row >= texts.len() || valid.get_bit(*row) || texts.value_length(*row) != 0 {
            return Err(wrong());
        }
        valid.set_bit(*row, true);
    }
    let nulls = NullBuffer::new(valid.finish());
    Ok(std::sync::Arc::new(StringArray::try_new(texts.offsets().clone(), texts.values().clone(), Some(nulls))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found in a text, in pieces of every size, and how many rows there are.
    fn found(text: &str) -> (Vec<(usize, usize)>, u64) {
        let in_pieces = |size: usize| {
            let mut empties = Empties::default();
            text.as_bytes().chunks(size).for_each(|piece| empties.follow(piece));
            empties.end();
            let rows = empties.rows();
            (empties.before(rows, 0), rows)
        };
        let whole = in_pieces(text.len());
        // The mark before the text is told from it only where it comes in one piece.
        for size in (1..text.len()).filter(|size| *size >= 3 || !text.starts_with('\u{feff}')) {
            assert_eq!(in_pieces(size), whole, "{text:?} in pieces of {size}");
        }
        whole
    }

    #[test]
    fn quoted_fields_without_letters_are_found_wherever_they_stand() {
        assert_eq!(found("a,b\n\"\",\n,\"\"\nx,\"\""), (vec![(1, 0), (2, 1), (3, 1)], 4));
        assert_eq!(found("a,b\r\n\"\",\"\"\r\n\r\n\n1,2\r\n\"\",y\r\n"), (vec![(1, 0), (1, 1), (3, 0)], 4));
        assert_eq!(found("\u{feff}\"a\",\"b\"\n\"\",1\n"), (vec![(1, 0)], 2));
        assert_eq!(found("a\n\"\"\n\"x\"\n"), (vec![(1, 0)], 3));
    }

    #[test]
    fn other_quotes_are_no_empty_texts() {
        for text in
            ["a,b\n\"\"\"\",1\n", "a,b\n\"x\"\"\",1\n", "a,b\n\"\n\"\"\n,\"\"\"\"\n\",1\n", "a,b\nx\"\",1\n", "a,b\n \"\",1\n"]
        {
            assert_eq!(found(text), (Vec::new(), 2), "{text:?}");
        }
    }

    #[test]
    fn only_a_null_becomes_an_empty_text() {
        let column: ArrayRef = std::sync::Arc::new(StringArray::from(vec![None, Some("x"), None]));
        let right = put(&column, &[2]).unwrap();
        assert_eq!(right.as_string::<i32>(), &StringArray::from(vec![None, Some("x"), Some("")]));
        assert!(put(&column, &[1]).is_err() && put(&column, &[3]).is_err());
        let none: ArrayRef = std::sync::Arc::new(StringArray::from(vec!["x"]));
        assert!(put(&none, &[0]).is_err());
    }
}
