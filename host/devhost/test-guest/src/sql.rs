//! SQLite as the tests need it: any statement, and notes that outlive the instance.

use spin_sdk::sqlite3::{Connection, Value};

/// Runs one statement and writes its columns and rows as lines.
pub fn run(database: &str, statement: &str, parameters: &[Value]) -> Result<String, String> {
    let connection = Connection::open(database).map_err(|error| format!("{error:?}"))?;
    run_on(&connection, statement, parameters)
}

/// The same on an open connection.
pub fn run_on(
    connection: &Connection,
    statement: &str,
    parameters: &[Value],
) -> Result<String, String> {
    let result = connection
        .execute(statement, parameters)
        .map_err(|error| format!("{error:?}"))?;
    let mut text = result.columns.join(",");
    for row in &result.rows {
        text.push('\n');
        let values: Vec<String> = row.values.iter().map(show).collect();
        text.push_str(&values.join(","));
    }
    Ok(text)
}

fn show(value: &Value) -> String {
    match value {
        Value::Integer(integer) => integer.to_string(),
        Value::Real(real) => format!("{real:?}"),
        Value::Text(text) => text.clone(),
        Value::Blob(bytes) => format!("{bytes:?}"),
        Value::Null => "null".to_owned(),
    }
}

/// Appends a line to the table `notes`.
pub fn note(text: &str) -> Result<(), String> {
    run(
        "default",
        "CREATE TABLE IF NOT EXISTS notes (text TEXT)",
        &[],
    )?;
    run(
        "default",
        "INSERT INTO notes VALUES (?)",
        &[Value::Text(text.to_owned())],
    )?;
    Ok(())
}

/// A transaction over several calls: commits, drops the connection, traps or pauses before the end.
pub fn transaction(end: &str) -> Result<String, String> {
    note("")?;
    let connection = Connection::open("default").map_err(|error| format!("{error:?}"))?;
    run_on(&connection, "BEGIN IMMEDIATE", &[])?;
    let insert = "INSERT INTO notes VALUES (?)";
    run_on(
        &connection,
        insert,
        &[Value::Text(format!("in transaction, {end}"))],
    )?;
    match end {
        "trap" => panic!("asked to trap in a transaction"),
        "pause" => {
            eprintln!("holding the transaction");
            std::thread::sleep(std::time::Duration::from_secs(600));
            Ok(String::new())
        }
        "commit" => run_on(&connection, "COMMIT", &[]),
        _ => Ok(String::new()),
    }
}

/// Values of every type out and in again, the rowid and the number of changes.
pub fn types() -> Result<String, String> {
    let connection = Connection::open("default").map_err(|error| format!("{error:?}"))?;
    run_on(
        &connection,
        "CREATE TABLE IF NOT EXISTS types (a, b, c, d, e)",
        &[],
    )?;
    let values = [
        Value::Integer(i64::MIN),
        Value::Real(0.5),
        Value::Text("tëxt".to_owned()),
        Value::Blob(vec![0, 255]),
        Value::Null,
    ];
    run_on(
        &connection,
        "INSERT INTO types VALUES (?, ?, ?, ?, ?)",
        &values,
    )?;
    let facts = format!(
        "{} {}",
        connection.last_insert_rowid(),
        connection.changes()
    );
    Ok(format!(
        "{facts}\n{}",
        run_on(&connection, "SELECT * FROM types", &[])?
    ))
}

/// Opens connections until the host says no.
pub fn open_many() -> String {
    let mut open = Vec::new();
    loop {
        match Connection::open("default") {
            Ok(connection) => open.push(connection),
            Err(error) => return format!("{} {error:?}", open.len()),
        }
    }
}
