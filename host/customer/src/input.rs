//! Turns a JSON file, `{"inputs": [...]}` or `{"rows": [[...], ...]}`, into the body of an Open Inference Protocol request.
//! It does not judge the numbers: dtype, shape and finiteness are the enclave's to refuse.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::CustomerError;

/// Inputs as the user wrote them.
pub enum InferInput {
    /// A whole request, passed on as it is.
    Tensors(Value),
    /// Rows for a model with one input tensor.
    Rows(Vec<Vec<Value>>),
}

impl InferInput {
    /// Reads either form.
    ///
    /// # Errors
    /// `INPUT_INVALID`.
    pub fn parse(bytes: &[u8]) -> Result<Self, CustomerError> {
        let value: Value = serde_json::from_slice(bytes).map_err(|_| bad("the input is not JSON"))?;
        if value.get("inputs").is_some_and(Value::is_array) {
            return Ok(Self::Tensors(value));
        }
        let rows =
            value.get("rows").and_then(Value::as_array).ok_or_else(|| bad("the input has neither inputs nor rows"))?;
        let rows: Vec<Vec<Value>> = rows
            .iter()
            .map(|row| row.as_array().filter(|r| r.iter().all(is_scalar)).cloned())
            .collect::<Option<_>>()
            .ok_or_else(|| bad("rows is not a list of lists of numbers"))?;
        match rows.first() {
            Some(first) if !first.is_empty() && rows.iter().all(|r| r.len() == first.len()) => Ok(Self::Rows(rows)),
            _ => Err(bad("rows are empty or of different lengths")),
        }
    }

    /// The body of the request; `metadata` is the service's description of the model.
    ///
    /// # Errors
    /// `INPUT_INVALID` for rows when the model has another number of inputs than one.
    pub fn body(&self, metadata: &Value) -> Result<Bytes, CustomerError> {
        let rows = match self {
            Self::Tensors(value) => return Ok(Bytes::from(value.to_string())),
            Self::Rows(rows) => rows,
        };
        let input = match metadata.get("inputs").and_then(Value::as_array).map(Vec::as_slice) {
            Some([input]) => input,
            _ => return Err(bad("rows are for models with one input tensor; write inputs instead")),
        };
        let shape = shape(input, rows)?;
        let data: Vec<&Value> = rows.iter().flatten().collect();
        let body = json!({"inputs": [{
            "name": input.get("name"), "datatype": input.get("datatype"), "shape": shape, "data": data,
        }]});
        Ok(Bytes::from(body.to_string()))
    }
}

/// Rows, then the model's own inner dimensions where they hold as many numbers as a row, else the row's length.
fn shape(input: &Value, rows: &[Vec<Value>]) -> Result<Vec<u64>, CustomerError> {
    let width = rows.first().map_or(0, Vec::len) as u64;
    let declared: Vec<i64> =
        input.get("shape").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_i64).collect();
    let inner: Option<Vec<u64>> = declared.get(1..).and_then(|d| d.iter().map(|x| u64::try_from(*x).ok()).collect());
    let mut shape = vec![rows.len() as u64];
    match inner {
        Some(inner) if inner.iter().try_fold(1_u64, |a, b| a.checked_mul(*b)) == Some(width) => shape.extend(inner),
        Some(inner) if inner.len() > 1 => return Err(bad("a row has another number of values than the model's input")),
        _ => shape.push(width),
    }
    Ok(shape)
}

/// The outputs of an answer: a table with one line a row; outputs with another number of rows follow in their own.
#[must_use]
pub fn outputs_text(answer: &Value) -> String {
    let outputs = answer.get("outputs").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut columns: Vec<(String, Vec<String>)> = outputs.iter().map(column).collect();
    let mut text = String::new();
    while let Some(rows) = columns.first().map(|(_, rows)| rows.len()) {
        let (same, other): (Vec<_>, Vec<_>) = columns.into_iter().partition(|(_, r)| r.len() == rows);
        columns = other;
        if !text.is_empty() {
            text.push('\n');
        }
        let numbers = ("row".to_owned(), (0..rows).map(|n| n.to_string()).collect());
        let table: Vec<(String, Vec<String>)> = std::iter::once(numbers).chain(same).collect();
        let widths: Vec<usize> = table
            .iter()
            .map(|(name, rows)| rows.iter().chain([name]).map(|cell| cell.chars().count()).max().unwrap_or(0))
            .collect();
        for at in 0..=rows {
            let cell =
                |(name, rows): &(String, Vec<String>)| at.checked_sub(1).map_or(name.clone(), |n| rows[n].clone());
            let cells: Vec<String> =
                table.iter().zip(&widths).map(|(c, width)| format!("{:<width$}", cell(c))).collect();
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
        }
    }
    text
}

/// One output: its name, and its values row by row.
fn column(output: &Value) -> (String, Vec<String>) {
    let name = output.get("name").and_then(Value::as_str).unwrap_or("output");
    let rows = output.pointer("/shape/0").and_then(Value::as_u64).unwrap_or(1).max(1);
    let data = output.get("data").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if let Some(bytes) = output.pointer("/parameters/binary_data_size").and_then(Value::as_u64) {
        return (printable(name), vec![format!("({bytes} bytes, binary)")]);
    }
    let width = data.len().div_ceil(usize::try_from(rows).unwrap_or(usize::MAX)).max(1);
    let row = |row: &[Value]| row.iter().map(scalar_text).collect::<Vec<_>>().join(" ");
    (printable(name), data.chunks(width).map(row).collect())
}

fn scalar_text(value: &Value) -> String {
    match value {
        Value::String(text) => printable(text),
        other => printable(&other.to_string()),
    }
}

/// An answer is the model's: no control character of it reaches a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn is_scalar(value: &Value) -> bool {
    value.is_number() || value.is_boolean() || value.is_string()
}

const fn bad(fact: &'static str) -> CustomerError {
    CustomerError::usage("INPUT_INVALID", fact)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_one_tensor() {
        let input = InferInput::parse(br#"{"rows": [[1, 2.5], [3, 4]]}"#).unwrap();
        let meta = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]});
        let body: Value = serde_json::from_slice(&input.body(&meta).unwrap()).unwrap();
        assert_eq!(
            body,
            json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1, 2.5, 3, 4]}]})
        );
    }

    #[test]
    fn inner_dimensions_are_the_models() {
        let input = InferInput::parse(br#"{"rows": [[1, 2, 3, 4, 5, 6]]}"#).unwrap();
        let meta = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2, 3]}]});
        let body: Value = serde_json::from_slice(&input.body(&meta).unwrap()).unwrap();
        assert_eq!(body["inputs"][0]["shape"], json!([1, 2, 3]));
    }

    #[test]
    fn other_forms_are_refused() {
        for bad in
            ["", "[]", "{}", r#"{"rows": []}"#, r#"{"rows": [[]]}"#, r#"{"rows": [[1],[1,2]]}"#, r#"{"rows": [[[1]]]}"#]
        {
            let code = InferInput::parse(bad.as_bytes()).err().map(|e| e.code());
            assert_eq!(code, Some("INPUT_INVALID"), "{bad}");
        }
        let rows = InferInput::parse(br#"{"rows": [[1]]}"#).unwrap();
        assert!(rows.body(&json!({"inputs": [{}, {}]})).is_err());
    }

    #[test]
    fn outputs_are_printed_row_by_row_without_control_characters() {
        let answer = json!({"outputs": [
            {"name": "label", "shape": [2], "data": [1, 0]},
            {"name": "p\u{1b}", "shape": [2, 2], "data": [0.1, 0.9, 0.8, 0.2]},
            {"name": "sum", "shape": [1], "data": [7]},
        ]});
        let table = "row  label  p\u{fffd}\n0    1      0.1 0.9\n1    0      0.8 0.2\n\nrow  sum\n0    7\n";
        assert_eq!(outputs_text(&answer), table);
        assert_eq!(outputs_text(&json!({})), "");
        let binary = json!({"outputs": [{"name": "b", "shape": [9], "parameters": {"binary_data_size": 36}}]});
        assert_eq!(outputs_text(&binary), "row  b\n0    (36 bytes, binary)\n");
    }
}
