//! Values between the guest and tokio-postgres, by the same types as in Spin, so that a guest sees the same strictness: nothing is
//! cast. Decimals and ranges are not carried.

use std::error::Error;

use bytes::{Buf, BufMut, BytesMut};
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike, Utc};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

use crate::bindings::spin::postgres::postgres::{DbDataType, DbValue, Interval, ParameterValue};

/// A parameter as tokio-postgres takes it.
pub type Parameter = Box<dyn ToSql + Send + Sync>;

type BoxError = Box<dyn Error + Send + Sync>;

/// The bytes of an interval: microseconds (8), days (4), months (4).
const INTERVAL_BYTES: usize = 16;

/// All parameters of a statement.
///
/// # Errors
/// One is no such value, for example no date of the calendar, or of a type that is not carried; the text is for the guest.
pub fn parameters(values: Vec<ParameterValue>) -> Result<Vec<Parameter>, String> {
    values.into_iter().map(parameter).collect()
}

fn parameter(value: ParameterValue) -> Result<Parameter, String> {
    Ok(match value {
        ParameterValue::Boolean(value) => Box::new(value),
        ParameterValue::Int8(value) => Box::new(value),
        ParameterValue::Int16(value) => Box::new(value),
        ParameterValue::Int32(value) => Box::new(value),
        ParameterValue::Int64(value) => Box::new(value),
        ParameterValue::Floating32(value) => Box::new(value),
        ParameterValue::Floating64(value) => Box::new(value),
        ParameterValue::Str(value) => Box::new(value),
        ParameterValue::Binary(value) => Box::new(value),
        ParameterValue::Date(value) => Box::new(date(value)?),
        ParameterValue::Time(value) => Box::new(time(value)?),
        ParameterValue::Datetime((year, month, day, hour, minute, second, nanosecond)) => {
            let date = date((year, month, day))?;
            Box::new(date.and_time(time((hour, minute, second, nanosecond))?))
        }
        ParameterValue::Timestamp(seconds) => Box::new(
            DateTime::<Utc>::from_timestamp(seconds, 0)
                .ok_or_else(|| format!("{seconds} s since 1970 are out of range"))?,
        ),
        ParameterValue::Uuid(text) => {
            let uuid = Uuid::parse_str(&text);
            Box::new(uuid.map_err(|error| format!("{text:?} is no UUID: {error}"))?)
        }
        ParameterValue::Jsonb(bytes) => {
            let json = serde_json::from_slice::<serde_json::Value>(&bytes);
            Box::new(json.map_err(|error| format!("a jsonb parameter is no JSON: {error}"))?)
        }
        ParameterValue::ArrayInt32(values) => Box::new(values),
        ParameterValue::ArrayInt64(values) => Box::new(values),
        ParameterValue::ArrayStr(values) => Box::new(values),
        ParameterValue::Interval(value) => Box::new(AnInterval(value)),
        ParameterValue::DbNull => Box::new(AnyNull),
        ParameterValue::Decimal(_) | ParameterValue::ArrayDecimal(_) => {
            return Err("devhost does not carry decimals".to_owned());
        }
        ParameterValue::RangeInt32(_)
        | ParameterValue::RangeInt64(_)
        | ParameterValue::RangeDecimal(_) => {
            return Err("devhost does not carry ranges".to_owned());
        }
    })
}

/// What the guest is told of a column's type.
pub fn data_type(column: &Type) -> DbDataType {
    match *column {
        Type::BOOL => DbDataType::Boolean,
        Type::INT2 => DbDataType::Int16,
        Type::INT4 => DbDataType::Int32,
        Type::INT8 => DbDataType::Int64,
        Type::FLOAT4 => DbDataType::Floating32,
        Type::FLOAT8 => DbDataType::Floating64,
        Type::TEXT | Type::VARCHAR | Type::BPCHAR => DbDataType::Str,
        Type::BYTEA => DbDataType::Binary,
        Type::DATE => DbDataType::Date,
        Type::TIME => DbDataType::Time,
        Type::TIMESTAMP | Type::TIMESTAMPTZ => DbDataType::Datetime,
        Type::UUID => DbDataType::Uuid,
        Type::JSONB => DbDataType::Jsonb,
        Type::INT4_ARRAY => DbDataType::ArrayInt32,
        Type::INT8_ARRAY => DbDataType::ArrayInt64,
        Type::TEXT_ARRAY | Type::VARCHAR_ARRAY | Type::BPCHAR_ARRAY => DbDataType::ArrayStr,
        Type::INTERVAL => DbDataType::Interval,
        _ => DbDataType::Other(column.name().to_owned()),
    }
}

/// The value in a column. One of a type that is not carried is `unsupported`, with its bytes.
///
/// # Errors
/// The value does not fit: a date beyond the calendar, and `timestamptz`, which Spin does not read either.
pub fn value(row: &Row, index: usize) -> Result<DbValue, tokio_postgres::Error> {
    match *row.columns()[index].type_() {
        Type::BOOL => get(row, index, DbValue::Boolean),
        Type::INT2 => get(row, index, DbValue::Int16),
        Type::INT4 => get(row, index, DbValue::Int32),
        Type::INT8 => get(row, index, DbValue::Int64),
        Type::FLOAT4 => get(row, index, DbValue::Floating32),
        Type::FLOAT8 => get(row, index, DbValue::Floating64),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR => get(row, index, DbValue::Str),
        Type::BYTEA => get(row, index, DbValue::Binary),
        Type::DATE => get(row, index, |date: NaiveDate| {
            DbValue::Date((date.year(), small(date.month()), small(date.day())))
        }),
        Type::TIME => get(row, index, |time: NaiveTime| {
            let (hour, minute, second) = clock(time);
            DbValue::Time((hour, minute, second, time.nanosecond()))
        }),
        Type::TIMESTAMP | Type::TIMESTAMPTZ => get(row, index, |at: NaiveDateTime| {
            let (hour, minute, second) = clock(at.time());
            let (month, day) = (small(at.month()), small(at.day()));
            let nanosecond = at.nanosecond();
            DbValue::Datetime((at.year(), month, day, hour, minute, second, nanosecond))
        }),
        Type::UUID => get(row, index, |uuid: Uuid| DbValue::Uuid(uuid.to_string())),
        Type::JSONB => get(row, index, |json: serde_json::Value| {
            DbValue::Jsonb(json.to_string().into_bytes())
        }),
        Type::INT4_ARRAY => get(row, index, DbValue::ArrayInt32),
        Type::INT8_ARRAY => get(row, index, DbValue::ArrayInt64),
        Type::TEXT_ARRAY | Type::VARCHAR_ARRAY | Type::BPCHAR_ARRAY => {
            get(row, index, DbValue::ArrayStr)
        }
        Type::INTERVAL => get(row, index, |value: AnInterval| DbValue::Interval(value.0)),
        _ => get(row, index, |bytes: Bytes| DbValue::Unsupported(bytes.0)),
    }
}

fn get<'a, T: FromSql<'a>>(
    row: &'a Row,
    index: usize,
    wrap: impl FnOnce(T) -> DbValue,
) -> Result<DbValue, tokio_postgres::Error> {
    let value: Option<T> = row.try_get(index)?;
    Ok(value.map_or(DbValue::DbNull, wrap))
}

/// About how much memory a value takes.
pub fn size_bytes(value: &DbValue) -> usize {
    let outside = match value {
        DbValue::Str(text) | DbValue::Uuid(text) | DbValue::Decimal(text) => text.len(),
        DbValue::Binary(bytes) | DbValue::Jsonb(bytes) | DbValue::Unsupported(bytes) => bytes.len(),
        DbValue::ArrayInt32(values) => size_of_val(values.as_slice()),
        DbValue::ArrayInt64(values) => size_of_val(values.as_slice()),
        DbValue::ArrayStr(values) => {
            size_of_val(values.as_slice()) + values.iter().flatten().map(String::len).sum::<usize>()
        }
        _ => 0,
    };
    size_of::<DbValue>() + outside
}

fn date((year, month, day): (i32, u8, u8)) -> Result<NaiveDate, String> {
    NaiveDate::from_ymd_opt(year, month.into(), day.into())
        .ok_or_else(|| format!("there is no date of year {year}, month {month}, day {day}"))
}

fn time((hour, minute, second, nanosecond): (u8, u8, u8, u32)) -> Result<NaiveTime, String> {
    NaiveTime::from_hms_nano_opt(hour.into(), minute.into(), second.into(), nanosecond)
        .ok_or_else(|| format!("there is no time {hour}:{minute}:{second} and {nanosecond} ns"))
}

fn clock(time: NaiveTime) -> (u8, u8, u8) {
    let (hour, minute, second) = (time.hour(), time.minute(), time.second());
    (small(hour), small(minute), small(second))
}

/// A part of a date or of a time of day; all are far below 256.
fn small(part: u32) -> u8 {
    u8::try_from(part).unwrap_or(u8::MAX)
}

/// NULL, of whatever type is asked for.
#[derive(Debug)]
struct AnyNull;

impl ToSql for AnyNull {
    fn to_sql(&self, _: &Type, _: &mut BytesMut) -> Result<IsNull, BoxError> {
        Ok(IsNull::Yes)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

#[derive(Debug)]
struct AnInterval(Interval);

impl ToSql for AnInterval {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, BoxError> {
        out.put_i64(self.0.micros);
        out.put_i32(self.0.days);
        out.put_i32(self.0.months);
        Ok(IsNull::No)
    }

    fn accepts(asked: &Type) -> bool {
        *asked == Type::INTERVAL
    }

    to_sql_checked!();
}

impl FromSql<'_> for AnInterval {
    fn from_sql(_: &Type, mut raw: &[u8]) -> Result<AnInterval, BoxError> {
        if raw.len() != INTERVAL_BYTES {
            return Err(format!("an interval of {} bytes", raw.len()).into());
        }
        Ok(AnInterval(Interval {
            micros: raw.get_i64(),
            days: raw.get_i32(),
            months: raw.get_i32(),
        }))
    }

    fn accepts(given: &Type) -> bool {
        *given == Type::INTERVAL
    }
}

/// A value of any type, as it came.
struct Bytes(Vec<u8>);

impl FromSql<'_> for Bytes {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Bytes, BoxError> {
        Ok(Bytes(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}
