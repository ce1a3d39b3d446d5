//! Drives the real binary, with real hyperd and judges that Lakeport did not write.

mod adverse;
mod bad_input;
mod batteries;
mod commands;
mod database;
mod dataframe;
mod delta;
mod faults;
mod formats;
mod in_place;
mod killed;
mod long;
mod parts;
mod publish;
mod recordings;
mod spark;
mod stores;
mod support;
mod tde;
mod terminal;
mod values;
mod wire;
mod xlsx;
mod yxdb;
