//! What the user asks for, column by column.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Kind, Result};
use crate::nearest::nearest;

/// Which columns may lose information.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Lossy {
    /// None; the default.
    #[default]
    None,
    /// All of them.
    All,
    /// These.
    Columns(BTreeSet<String>),
}

impl Lossy {
    /// Whether this column may lose information.
    #[must_use]
    pub fn allows(&self, column: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Columns(names) => names.contains(column),
        }
    }
}

/// A wish for one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// A type of the target, in the user's words: `double`, `numeric(38,10)`, `text`.
    Type(String),
    /// A nested column as JSON text.
    Json,
    /// A struct as one column per field, named `column.field`.
    Flatten,
    /// The column left out.
    Drop,
    /// A nested column refused; the default.
    Refuse,
}

impl Wish {
    /// Reads a wish as written in `types.COLUMN = "…"`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.trim().to_ascii_lowercase().as_str() {
            "json" => Self::Json,
            "flatten" => Self::Flatten,
            "drop" => Self::Drop,
            "refuse" => Self::Refuse,
            other => Self::Type(other.to_owned()),
        }
    }
}

/// All wishes of a table, and what its environment allows.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// By source column name; a flattened field by its dotted name.
    pub columns: BTreeMap<String, Wish>,
    /// Which columns may lose information.
    pub lossy: Lossy,
    /// The highest Hyper file-format version the environment allows.
    pub hyper_version: Option<u8>,
    /// Keys to declare.
    pub keys: super::Keys,
    /// How the file is written.
    pub files: super::files::FileOptions,
}

impl Wishes {
    /// Stops on a wish for a column that does not exist.
    ///
    /// # Errors
    /// `Usage` that names the nearest column.
    pub fn ensure_known<'a>(&self, columns: impl Iterator<Item = &'a str> + Clone) -> Result<()> {
        let lossy = match &self.lossy {
            Lossy::Columns(names) => names.iter().collect::<Vec<_>>(),
            _ => Vec::new(),
        };
        for wished in self.columns.keys().chain(lossy) {
            // A dotted name may be a field below a flattened column.
            let known = |c: &str| c == wished || wished.strip_prefix(c).is_some_and(|rest| rest.starts_with('.'));
            if !columns.clone().any(known) {
                let near = nearest(wished, columns);
                let e = Error::new(
                    Kind::Usage,
                    format!("a type or loss is given for column `{wished}`, which the source does not have"),
                )
                .at("column", wished);
                return Err(match near {
                    Some(name) => e.help(format!("did you mean `{name}`?")),
                    None => e,
                });
            }
        }
        Ok(())
    }
}
