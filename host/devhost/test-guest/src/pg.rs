//! PostgreSQL as the tests need it: any statements on one connection, and values of every type.

use spin_sdk::pg4::{
    Connection, DbError, DbValue, Interval, ParameterValue, PgError, QueryError, RowSet,
};

/// A table with a column of each type that the host carries.
const TABLE: &str = "CREATE TEMPORARY TABLE types (a boolean, b smallint, c integer, d bigint, e real, f double precision, \
    g text, h varchar(9), i bytea, j date, k time, l timestamp, m uuid, n jsonb, o integer[], p bigint[], q text[], r interval)";

const INSERT: &str = "INSERT INTO types VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)";

/// Runs the statements, one a line, on one connection. Writes the last one's columns and rows as lines.
pub fn run(address: &str, statements: &str) -> Result<String, String> {
    let connection = Connection::open(address).map_err(explain)?;
    run_on(&connection, statements)
}

fn run_on(connection: &Connection, statements: &str) -> Result<String, String> {
    let mut text = String::new();
    for statement in statements.lines() {
        text = show(&connection.query(statement, &[]).map_err(explain)?);
    }
    Ok(text)
}

/// Runs one statement by `execute`, with a text as its only parameter.
pub fn execute(address: &str, statement: &str, parameter: &str) -> Result<String, String> {
    let connection = Connection::open(address).map_err(explain)?;
    let parameter = ParameterValue::Str(parameter.to_owned());
    let changed = connection
        .execute(statement, &[parameter])
        .map_err(explain)?;
    Ok(changed.to_string())
}

/// Runs the statements and traps while it has the connection.
pub fn trap(address: &str, statements: &str) -> Result<String, String> {
    let connection = Connection::open(address).map_err(explain)?;
    run_on(&connection, statements)?;
    panic!("asked to trap");
}

/// Asks the server again and again until that fails; tells how.
pub fn poll(address: &str) -> Result<String, String> {
    let connection = Connection::open(address).map_err(explain)?;
    eprintln!("polling");
    loop {
        run_on(&connection, "SELECT 1")?;
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Values of every type out and in again.
pub fn types(address: &str) -> Result<String, String> {
    there_and_back(
        address,
        &[
            ParameterValue::Boolean(true),
            ParameterValue::Int16(i16::MIN),
            ParameterValue::Int32(i32::MAX),
            ParameterValue::Int64(i64::MIN),
            ParameterValue::Floating32(0.5),
            ParameterValue::Floating64(-1e300),
            ParameterValue::Str("tëxt".to_owned()),
            ParameterValue::Str("short".to_owned()),
            ParameterValue::Binary(vec![0, 255]),
            ParameterValue::Date((2024, 2, 29)),
            ParameterValue::Time((23, 59, 58, 7_000)),
            ParameterValue::Datetime((1969, 12, 31, 1, 2, 3, 4_000)),
            ParameterValue::Uuid("00112233-4455-6677-8899-aabbccddeeff".to_owned()),
            ParameterValue::Jsonb(b"{ \"a\": [1, null] }".to_vec()),
            ParameterValue::ArrayInt32(vec![Some(-1), None]),
            ParameterValue::ArrayInt64(vec![Some(i64::MAX)]),
            ParameterValue::ArrayStr(vec![None, Some("x".to_owned())]),
            ParameterValue::Interval(Interval {
                micros: -1,
                days: 2,
                months: 3,
            }),
        ],
    )
}

/// A NULL of every type.
pub fn nulls(address: &str) -> Result<String, String> {
    there_and_back(address, &vec![ParameterValue::DbNull; 18])
}

fn there_and_back(address: &str, values: &[ParameterValue]) -> Result<String, String> {
    let connection = Connection::open(address).map_err(explain)?;
    run_on(&connection, TABLE)?;
    let changed = connection.execute(INSERT, values).map_err(explain)?;
    let answer = connection
        .query("SELECT * FROM types", &[])
        .map_err(explain)?;
    Ok(format!("{changed}\n{}", show(&answer)))
}

/// Parameters that cannot be, and what is said of each.
pub fn bad_parameters(address: &str) -> Result<String, String> {
    let connection = Connection::open(address).map_err(explain)?;
    let bad = [
        ParameterValue::Date((2023, 2, 29)),
        ParameterValue::Uuid("nobody".to_owned()),
        ParameterValue::Jsonb(b"{".to_vec()),
        ParameterValue::Decimal("1.5".to_owned()),
        ParameterValue::RangeInt32((None, None)),
        ParameterValue::Int32(1),
    ];
    let mut text = String::new();
    for parameter in bad {
        let result = connection.query("SELECT $1::bigint", &[parameter]);
        let error = result.err().ok_or("it was taken")?;
        text.push_str(&explain(error));
        text.push('\n');
    }
    Ok(text)
}

fn show(answer: &RowSet) -> String {
    let columns: Vec<String> = answer
        .columns
        .iter()
        .map(|column| format!("{}:{:?}", column.name, column.data_type))
        .collect();
    let mut text = columns.join(",");
    for row in &answer.rows {
        text.push('\n');
        let values: Vec<String> = row.iter().map(show_value).collect();
        text.push_str(&values.join(","));
    }
    text
}

fn show_value(value: &DbValue) -> String {
    match value {
        DbValue::Jsonb(bytes) => format!("Jsonb({})", String::from_utf8_lossy(bytes)),
        other => format!("{other:?}").replace("DbValue::", ""),
    }
}

fn explain(error: PgError) -> String {
    let PgError::QueryFailed(QueryError::DbError(said)) = error else {
        return format!("{error:?}");
    };
    let DbError {
        severity,
        code,
        message,
        extras,
        ..
    } = said;
    let constraint = extras.iter().find(|(name, _)| name == "constraint");
    let constraint = constraint.map_or("none", |(_, value)| value);
    format!("{severity} {code}: {message} (constraint: {constraint})")
}
