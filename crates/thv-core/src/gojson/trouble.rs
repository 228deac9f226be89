//! What is wrong with a document, in words for people.

use serde_json::error::Category;

/// Why serde could not read a document, and where. What it read is not quoted: it may hold secrets.
pub fn trouble(error: &serde_json::Error) -> String {
    let problem = match error.classify() {
        Category::Io => "it cannot be read",
        Category::Eof => "it ends too early",
        Category::Syntax => "it is not JSON",
        Category::Data => "a value is missing, or is not of the kind that it has to be",
    };
    format!("{problem} (line {}, column {})", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_and_where_and_nothing_of_what_is_there() {
        #[derive(Debug, serde::Deserialize)]
        struct Counted {
            #[expect(dead_code, reason = "it is never read")]
            count: u32,
        }
        for (text, said) in [
            ("{\"count\": 1", "it ends too early (line 1, column 11)"),
            ("{\n\"count\": hunter2}", "it is not JSON (line 2, column 10)"),
            (
                "{\"count\": \"hunter2\"}",
                "a value is missing, or is not of the kind that it has to be (line 1, column 19)",
            ),
        ] {
            let error = serde_json::from_str::<Counted>(text).unwrap_err();
            assert_eq!(trouble(&error), said, "{text}");
        }
    }
}
