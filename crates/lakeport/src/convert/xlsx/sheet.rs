//! A sheet that anybody wrote, as a table: the first row that holds something names the columns, and each column has the type
//! that all of its cells agree on.
//!
//! A sheet has no types, so the whole of it is walked through before the first row is handed out; never only its first rows.
//! Where the cells of a column do not agree it is text, in which every value has its place.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Date32Builder, DurationMillisecondBuilder, Float64Builder, Int64Builder, RecordBatch,
    RecordBatchOptions, StringBuilder, Time32MillisecondBuilder, TimestampMillisecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use calamine::{DataRef, ExcelDateTime};
use chrono::{NaiveDate, NaiveDateTime, NaiveTime};

use super::rows::DAY;
use super::{cells, sheets};
use crate::convert::ahead::{Send, made_ahead};
use crate::convert::{ColumnDescription, Opened, TableDescription};
use crate::error::{Error, Kind, Result, Wrap};

/// Whole numbers up to which a double holds each.
const WHOLE: f64 = 9_007_199_254_740_992.0;
/// Rows, and bytes of texts, of a batch.
const BATCH: (usize, usize) = (8192, 16 * 1024 * 1024);

/// Opens a sheet by name; without one the first.
pub(super) fn open(path: &Path, sheet: Option<&str>) -> Result<Opened> {
    let all = sheets(path)?;
    let known = || format!("the sheets are {}", all.join(", "));
    let name = match sheet {
        None => all.first().ok_or_else(|| Error::new(Kind::SourceEmpty, format!("{} has no sheet", path.display())))?,
        Some(name) => all
            .iter()
            .find(|s| *s == name)
            .ok_or_else(|| Error::new(Kind::UnknownName, format!("{} has no sheet `{name}`", path.display())).help(known()))?,
    };
    let layout = Layout::of(path, name)?;
    if layout.columns.is_empty() {
        let empty = format!("sheet `{name}` of {} is empty", path.display());
        return Err(Error::new(Kind::SourceEmpty, empty).help(known()));
    }
    let schema = layout.schema();
    let (rows, name) = (layout.rows(), name.clone());
    let (of, path): (_, PathBuf) = (Arc::clone(&schema), path.to_owned());
    let sheet = name.clone();
    let batches = made_ahead(move |send| {
        let mut table = Rows::new(&layout, of);
        cells(&path, &sheet, &mut |row, column, value| table.cell(row, column, &value, &mut *send))?;
        table.end(send)
    });
    Ok(Opened { tables: all, table: name, schema, rows: Some(rows), batches })
}

/// What a sheet holds, for `lakeport describe`.
pub(super) fn describe(path: &Path, sheet: String) -> Result<TableDescription> {
    let layout = Layout::of(path, &sheet)?;
    let schema = layout.schema();
    let columns = schema.fields().iter().map(|f| ColumnDescription {
        name: f.name().clone(),
        data_type: f.data_type().to_string(),
        nullable: true,
    });
    let columns = columns.collect();
    Ok(TableDescription { rows: layout.rows(), name: sheet, columns })
}

/// Which cells make the table, and what they are.
struct Layout {
    /// The row of the names.
    header: u32,
    /// The last row with a value in it; rows below are only formatted.
    last: u32,
    columns: Vec<Column>,
}

struct Column {
    /// Its number in the sheet.
    at: u32,
    name: String,
    seen: Seen,
}

/// The kinds of cells of a column.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "a set of kinds, each there or not")]
struct Seen {
    boolean: bool,
    whole: bool,
    fraction: bool,
    date: bool,
    time: bool,
    moment: bool,
    duration: bool,
    text: bool,
}

impl Layout {
    /// Walks through the whole sheet.
    fn of(path: &Path, sheet: &str) -> Result<Self> {
        let mut layout = Self { header: 0, last: 0, columns: Vec::new() };
        let mut begun = false;
        cells(path, sheet, &mut |row, column, value| {
            if matches!(value, DataRef::Empty) {
                return Ok(());
            }
            if !begun {
                begun = true;
                layout.header = row;
            }
            layout.last = row;
            let at = layout.columns.partition_point(|c| c.at < column);
            if layout.columns.get(at).is_none_or(|c| c.at != column) {
                layout.columns.insert(at, Column { at: column, name: String::new(), seen: Seen::default() });
            }
            if row == layout.header {
                layout.columns[at].name = text(&value).trim().to_owned();
            } else {
                layout.columns[at].seen.take(&value);
            }
            Ok(())
        })?;
        layout.name();
        Ok(layout)
    }

    /// Names what has no name, and tells names apart that are alike.
    fn name(&mut self) {
        let mut taken = std::collections::BTreeSet::new();
        for column in &mut self.columns {
            if column.name.is_empty() {
                column.name = format!("column_{}", column.at + 1);
            }
            let mut name = column.name.clone();
            let mut number = 2;
            while !taken.insert(name.clone()) {
                name = format!("{}_{number}", column.name);
                number += 1;
            }
            column.name = name;
        }
    }

    fn rows(&self) -> u64 {
        u64::from(self.last - self.header)
    }

    fn schema(&self) -> SchemaRef {
        let fields: Vec<_> = self.columns.iter().map(|c| Field::new(&c.name, c.seen.data_type(), true)).collect();
        Arc::new(Schema::new(fields))
    }
}

impl Seen {
    fn take(&mut self, value: &DataRef<'_>) {
        match value {
            DataRef::Empty => {}
            DataRef::Bool(_) => self.boolean = true,
            DataRef::Int(_) => self.whole = true,
            DataRef::Float(n) if is_whole(*n) => self.whole = true,
            DataRef::Float(_) => self.fraction = true,
            DataRef::DateTime(at) if at.is_duration() => self.duration = true,
            DataRef::DateTime(at) if (0.0..1.0).contains(&at.as_f64()) => self.time = true,
            DataRef::DateTime(at) => match moment(at) {
                Some(_) if at.as_f64().fract() == 0.0 => self.date = true,
                Some(_) => self.moment = true,
                None => self.text = true,
            },
            DataRef::String(_)
            | DataRef::SharedString(_)
            | DataRef::DateTimeIso(_)
            | DataRef::DurationIso(_)
            | DataRef::Error(_) => {
                self.text = true;
            }
        }
    }

    fn data_type(self) -> DataType {
        let number = self.whole || self.fraction;
        let moment = self.date || self.time || self.moment;
        let kinds = [self.boolean, number, moment, self.duration, self.text].into_iter().filter(|k| *k).count();
        match self {
            _ if kinds != 1 || self.text => DataType::Utf8,
            Self { boolean: true, .. } => DataType::Boolean,
            Self { fraction: true, .. } => DataType::Float64,
            Self { whole: true, .. } => DataType::Int64,
            Self { duration: true, .. } => DataType::Duration(TimeUnit::Millisecond),
            Self { date: true, time: false, moment: false, .. } => DataType::Date32,
            Self { time: true, date: false, moment: false, .. } => DataType::Time32(TimeUnit::Millisecond),
            _ => DataType::Timestamp(TimeUnit::Millisecond, None),
        }
    }
}

/// Whether a number is one that a whole number says as well; the negative zero is none.
fn is_whole(n: f64) -> bool {
    n.fract() == 0.0 && n.abs() <= WHOLE && !(n == 0.0 && n.is_sign_negative())
}

/// A whole number of a double that holds one.
fn whole(n: f64) -> Option<i64> {
    // A number of at most 2^53, so its decimal digits are its own.
    (n.fract() == 0.0 && n.abs() <= WHOLE).then(|| format!("{n:.0}").parse().ok()).flatten()
}

/// A date and time in either of Excel's calendars; `None` for days that no calendar has, such as 1900-02-29, and before day 0.
fn moment(at: &ExcelDateTime) -> Option<NaiveDateTime> {
    // 2,958,466 would be the first day of the year 10000.
    if !(0.0..2_958_466.0).contains(&at.as_f64()) {
        return None;
    }
    let (year, month, day, hour, minute, second, millis) = at.to_ymd_hms_milli();
    NaiveDate::from_ymd_opt(year.into(), month.into(), day.into())?.and_hms_milli_opt(
        hour.into(),
        minute.into(),
        second.into(),
        millis.into(),
    )
}

/// A cell as text, as exactly as the cell says it.
fn text(value: &DataRef<'_>) -> String {
    match value {
        DataRef::String(text) | DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => text.clone(),
        DataRef::SharedString(text) => (*text).to_owned(),
        DataRef::Int(n) => n.to_string(),
        DataRef::Float(n) => n.to_string(),
        DataRef::Bool(b) => b.to_string(),
        DataRef::Error(e) => e.to_string(),
        DataRef::Empty => String::new(),
        DataRef::DateTime(at) => match moment(at) {
            _ if at.is_duration() => at.as_f64().to_string(),
            Some(moment) if at.as_f64() < 1.0 => moment.time().to_string(),
            Some(moment) if moment.time() == NaiveTime::MIN => moment.date().to_string(),
            Some(moment) => moment.format("%Y-%m-%dT%H:%M:%S%.f").to_string(),
            None => at.as_f64().to_string(),
        },
    }
}

/// Gathers one column.
enum Builder {
    Bool(BooleanBuilder),
    Int(Int64Builder),
    Float(Float64Builder),
    Date(Date32Builder),
    Time(Time32MillisecondBuilder),
    Stamp(TimestampMillisecondBuilder),
    Duration(DurationMillisecondBuilder),
    Text(StringBuilder),
}

/// Runs the same code over whatever builder it is.
macro_rules! each {
    ($self:expr, $b:ident => $what:expr) => {
        match $self {
            Self::Bool($b) => $what,
            Self::Int($b) => $what,
            Self::Float($b) => $what,
            Self::Date($b) => $what,
            Self::Time($b) => $what,
            Self::Stamp($b) => $what,
            Self::Duration($b) => $what,
            Self::Text($b) => $what,
        }
    };
}

impl Builder {
    fn new(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => Self::Bool(BooleanBuilder::new()),
            DataType::Int64 => Self::Int(Int64Builder::new()),
            DataType::Float64 => Self::Float(Float64Builder::new()),
            DataType::Date32 => Self::Date(Date32Builder::new()),
            DataType::Time32(_) => Self::Time(Time32MillisecondBuilder::new()),
            DataType::Timestamp(..) => Self::Stamp(TimestampMillisecondBuilder::new()),
            DataType::Duration(_) => Self::Duration(DurationMillisecondBuilder::new()),
            _ => Self::Text(StringBuilder::new()),
        }
    }

    fn null(&mut self) {
        each!(self, b => b.append_null());
    }

    fn finish(&mut self) -> ArrayRef {
        each!(self, b => Arc::new(b.finish()))
    }

    /// Appends a cell; `None` when it is not what the walk through the sheet saw. Hands out the bytes of a text.
    fn push(&mut self, value: &DataRef<'_>) -> Option<usize> {
        let millis = |n: f64| whole((n * DAY).round());
        match (self, value) {
            (Self::Text(b), value) => {
                let text = text(value);
                b.append_value(&text);
                return Some(text.len());
            }
            (Self::Bool(b), DataRef::Bool(v)) => b.append_value(*v),
            (Self::Int(b), DataRef::Int(n)) => b.append_value(*n),
            (Self::Int(b), DataRef::Float(n)) => b.append_value(whole(*n)?),
            (Self::Float(b), DataRef::Float(n)) => b.append_value(*n),
            (Self::Float(b), DataRef::Int(n)) => b.append_value(n.to_string().parse().ok()?),
            (Self::Duration(b), DataRef::DateTime(at)) => b.append_value(millis(at.as_f64())?),
            (Self::Time(b), DataRef::DateTime(at)) => {
                // Half a millisecond before midnight rounds up to the next day, which is no time.
                b.append_value(i32::try_from(millis(at.as_f64())?.min(86_399_999)).ok()?);
            }
            (Self::Date(b), DataRef::DateTime(at)) => {
                let days = moment(at)?.date().signed_duration_since(NaiveDate::default()).num_days();
                b.append_value(i32::try_from(days).ok()?);
            }
            (Self::Stamp(b), DataRef::DateTime(at)) => b.append_value(moment(at)?.and_utc().timestamp_millis()),
            _ => return None,
        }
        Some(0)
    }
}

/// Puts cells together to rows.
struct Rows {
    schema: SchemaRef,
    header: u32,
    last: u32,
    /// Of each column its number in the sheet.
    places: Vec<u32>,
    builders: Vec<Builder>,
    /// The row at work, and the next column of the table in it.
    row: u32,
    at: usize,
    rows: usize,
    bytes: usize,
}

impl Rows {
    fn new(layout: &Layout, schema: SchemaRef) -> Self {
        let builders = schema.fields().iter().map(|f| Builder::new(f.data_type())).collect();
        let places = layout.columns.iter().map(|c| c.at).collect();
        let (header, last) = (layout.header, layout.last);
        Self { schema, header, last, places, builders, row: header + 1, at: 0, rows: 0, bytes: 0 }
    }

    fn cell(&mut self, row: u32, column: u32, value: &DataRef<'_>, send: Send<'_>) -> Result<()> {
        if row <= self.header || row > self.last || matches!(value, DataRef::Empty) {
            return Ok(());
        }
        let changed = || Error::new(Kind::SourceUnreadable, "the sheet is not what it was when it was opened");
        while self.row < row {
            self.complete(send)?;
        }
        let column = self.places.binary_search(&column).map_err(|_| changed())?;
        if column < self.at {
            return Err(Error::new(Kind::SourceUnreadable, format!("the cells of row {} are not in order", row + 1)));
        }
        while self.at < column {
            self.builders[self.at].null();
            self.at += 1;
        }
        self.bytes += self.builders[column].push(value).ok_or_else(changed)?;
        self.at += 1;
        Ok(())
    }

    /// Fills the row at work with NULLs and goes on to the next.
    fn complete(&mut self, send: Send<'_>) -> Result<()> {
        while self.at < self.builders.len() {
            self.builders[self.at].null();
            self.at += 1;
        }
        self.at = 0;
        self.row += 1;
        self.rows += 1;
        if self.rows >= BATCH.0 || self.bytes >= BATCH.1 { self.flush(send) } else { Ok(()) }
    }

    fn flush(&mut self, send: Send<'_>) -> Result<()> {
        let columns: Vec<ArrayRef> = self.builders.iter_mut().map(Builder::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        (self.rows, self.bytes) = (0, 0);
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options);
        send(batch.wrap(Kind::Unexpected, || "the columns of a sheet are of unlike length".into())?)
    }

    fn end(&mut self, send: Send<'_>) -> Result<()> {
        while self.row <= self.last {
            self.complete(send)?;
        }
        if self.rows > 0 { self.flush(send) } else { Ok(()) }
    }
}
