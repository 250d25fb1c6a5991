//! Columns that hold what is never negative.
use rusqlite::{Error, Result, Row, types::Type};

/// Column `at` as an unsigned number of the wanted width.
pub(super) fn uint<T: TryFrom<i64>>(row: &Row<'_>, at: usize) -> Result<T> {
    let number: i64 = row.get(at)?;
    T::try_from(number).map_err(|_| Error::IntegralValueOutOfRange(at, number))
}

/// As [`uint`], for a column that may be null.
pub(super) fn optional_uint<T: TryFrom<i64>>(row: &Row<'_>, at: usize) -> Result<Option<T>> {
    if row.get_ref(at)?.data_type() == Type::Null { Ok(None) } else { uint(row, at).map(Some) }
}
