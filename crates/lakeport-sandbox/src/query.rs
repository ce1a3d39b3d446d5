//! What stands behind the question mark: paging, filters, flags.

use percent_encoding::percent_decode_str;

use crate::refusal::Refusal;
use crate::xml::Element;

/// How many items a page has when the caller does not say.
const DEFAULT_PAGE_SIZE: usize = 100;
/// The most items a page may have.
const MAX_PAGE_SIZE: usize = 1000;

/// The decoded parameters of a request; those nobody asks for are ignored, as servers do.
#[derive(Debug, Default)]
pub(crate) struct Query {
    parameters: Vec<(String, String)>,
}

/// One condition of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) field: String,
    pub(crate) operator: String,
    pub(crate) value: String,
}

/// One page out of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    number: usize,
    size: usize,
}

impl Query {
    /// Decodes a query; a plus is a space, as it is on servers.
    pub(crate) fn parse(raw: Option<&str>) -> Self {
        let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        let parameters = raw
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').map_or((decode(pair), String::new()), |(k, v)| (decode(k), decode(v))))
            .collect();
        Self { parameters }
    }

    /// The value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// A flag, which is off when it is absent.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.get(name) {
            None => Ok(false),
            Some(v) if v.eq_ignore_ascii_case("true") => Ok(true),
            Some(v) if v.eq_ignore_ascii_case("false") => Ok(false),
            Some(v) => Err(Refusal::bad_flag(format!("{name} is neither true nor false: {v}"))),
        }
    }

    /// The page that is asked for.
    pub(crate) fn page(&self) -> Result<Page, Refusal> {
        let number = |name: &str, default: usize| self.get(name).map_or(Some(default), |v| v.parse::<usize>().ok());
        let page = number("pageNumber", 1)
            .filter(|n| *n >= 1)
            .ok_or_else(|| Refusal::new(400_006, "Bad Request", "Invalid page number: page numbers are whole numbers from 1"))?;
        let size = number("pageSize", DEFAULT_PAGE_SIZE).filter(|n| (1..=MAX_PAGE_SIZE).contains(n)).ok_or_else(|| {
            Refusal::new(400_007, "Bad Request", format!("Invalid page size: page sizes are from 1 to {MAX_PAGE_SIZE}"))
        })?;
        Ok(Page { number: page, size })
    }

    /// The conditions of the filter, all of which must hold.
    ///
    /// It is split after decoding, as servers do: a comma inside a name ends the condition, and what follows is a condition of
    /// its own or no condition at all.
    pub(crate) fn filter(&self) -> Result<Vec<Condition>, Refusal> {
        let Some(text) = self.get("filter").filter(|t| !t.is_empty()) else { return Ok(Vec::new()) };
        let mut conditions = Vec::new();
        for piece in split_outside_brackets(text) {
            let mut words = piece.splitn(3, ':');
            let (Some(field), Some(operator), Some(value)) = (words.next(), words.next(), words.next()) else {
                return Err(bad_filter(format!("{piece:?} is not field:operator:value")));
            };
            let condition = Condition { field: field.to_owned(), operator: operator.to_owned(), value: value.to_owned() };
            conditions.push(condition);
        }
        Ok(conditions)
    }
}

impl Condition {
    /// Whether a text fulfils it; only `eq` and `in` are known for texts.
    pub(crate) fn holds(&self, text: &str) -> Result<bool, Refusal> {
        match self.operator.as_str() {
            "eq" => Ok(text == self.value),
            "in" => {
                let list = self.value.strip_prefix('[').and_then(|v| v.strip_suffix(']'));
                let list = list.ok_or_else(|| bad_filter(format!("in needs a list in brackets, not {:?}", self.value)))?;
                Ok(list.split(',').any(|v| v == text))
            }
            other => Err(bad_filter(format!("the operator {other} does not fit the field {}", self.field))),
        }
    }

    /// Refuses a field that this list cannot be filtered by.
    pub(crate) fn unknown_field(&self) -> Refusal {
        bad_filter(format!("the field {} cannot be filtered by here", self.field))
    }
}

fn bad_filter(detail: String) -> Refusal {
    Refusal::new(400_065, "Bad Request", format!("Invalid filter expression: {detail}"))
}

fn split_outside_brackets(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let (mut start, mut inside) = (0, false);
    for (i, c) in text.char_indices() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            ',' if !inside => {
                pieces.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    pieces.push(&text[start..]);
    pieces
}

impl Page {
    /// The part of a list that is on this page.
    pub(crate) fn of<T>(self, items: &[T]) -> &[T] {
        let start = (self.number - 1).saturating_mul(self.size).min(items.len());
        &items[start..start.saturating_add(self.size).min(items.len())]
    }

    /// The element that tells the caller where this page stands.
    pub(crate) fn element(self, total: usize) -> Element {
        Element::new("pagination")
            .attr("pageNumber", self.number.to_string())
            .attr("pageSize", self.size.to_string())
            .attr("totalAvailable", total.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(raw: &str) -> Result<Vec<(String, String, String)>, u32> {
        let conditions = Query::parse(Some(raw)).filter().map_err(|r| r.code())?;
        Ok(conditions.into_iter().map(|c| (c.field, c.operator, c.value)).collect())
    }

    #[test]
    fn filters_are_split_after_decoding() {
        let one = |f: &str, o: &str, v: &str| (f.to_owned(), o.to_owned(), v.to_owned());
        assert_eq!(
            filter("filter=name%3Aeq%3AA+%26+B%2CparentProjectId%3Aeq%3A12"),
            Ok(vec![one("name", "eq", "A & B"), one("parentProjectId", "eq", "12")])
        );
        assert_eq!(filter("filter=name:in:[a%20b,c]"), Ok(vec![one("name", "in", "[a b,c]")]));
        assert_eq!(filter("filter=name:eq:x:y"), Ok(vec![one("name", "eq", "x:y")]));
        assert_eq!(filter("filter=name%3Aeq%3ANorth%2C+South"), Err(400_065));
        assert_eq!(filter("x=1"), Ok(Vec::new()));
    }

    #[test]
    fn pages_outside_the_limits_are_refused() {
        let code = |raw: &str| Query::parse(Some(raw)).page().map_err(|r| r.code());
        for raw in ["pageNumber=0", "pageNumber=-1", "pageNumber=x", "pageNumber="] {
            assert_eq!(code(raw), Err(400_006), "{raw}");
        }
        for raw in ["pageSize=0", "pageSize=1001", "pageSize=ten"] {
            assert_eq!(code(raw), Err(400_007), "{raw}");
        }
        assert_eq!(code("pageNumber=3&pageSize=1000"), Ok(Page { number: 3, size: 1000 }));
        assert_eq!(Page { number: 3, size: 4 }.of(&[0; 10]).len(), 2);
        assert_eq!(Page { number: usize::MAX, size: 1000 }.of(&[0; 10]).len(), 0);
    }

    #[test]
    fn flags_are_booleans_or_refused() {
        let query = Query::parse(Some("overwrite=True&append=yes"));
        assert!(query.flag("overwrite").unwrap() && !query.flag("asJob").unwrap());
        assert_eq!(query.flag("append").unwrap_err().code(), 400_008);
    }
}
