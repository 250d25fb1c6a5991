//! Columns that hold what is never negative.
use rusqlite::{Error, Result, Row};

/// Column `at` as an unsigned number of the wanted width.
pub(super) fn uint<T: TryFrom<i64>>(row: &Row<'_>, at: usize) -> Result<T> {
    let number: i64 = row.get(at)?;
    T::try_from(number).map_err(|_| Error::IntegralValueOutOfRange(at, number))
}
