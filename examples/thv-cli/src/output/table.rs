//! Tables as Go's tabwriter makes them: columns three spaces apart, the last one not padded.

use std::fmt::Write as _;

use super::shown;

/// One cell; colours do not count in its width.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    text: String,
    colour: Option<Colour>,
}

/// A colour of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    Green,
    Yellow,
    Red,
    Grey,
}

impl Cell {
    pub(crate) fn coloured(text: impl Into<String>, colour: Colour) -> Self {
        Self {
            colour: Some(colour),
            ..Self::from(text.into())
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

impl From<String> for Cell {
    /// Control characters and escapes of a foreign text stay out of the terminal.
    fn from(text: String) -> Self {
        let text = text.chars().map(shown).collect();
        Self { text, colour: None }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// Lays rows out, the first one being the heads.
pub(crate) fn layout(rows: &[Vec<Cell>], colours: bool) -> String {
    const PADDING: usize = 3;
    let width = |cell: &Cell| cell.text.chars().count();
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns)
        .map(|at| {
            rows.iter()
                .filter_map(|row| row.get(at))
                .map(width)
                .max()
                .unwrap_or_default()
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            match cell.colour.filter(|_| colours) {
                Some(colour) => {
                    let _ = write!(text, "\x1b[{}m{}\x1b[0m", colour.code(), cell.text);
                }
                None => text.push_str(&cell.text),
            }
            if at + 1 < row.len() {
                text.extend(std::iter::repeat_n(' ', widths[at] + PADDING - width(cell)));
            }
        }
        text.push('\n');
    }
    text
}

impl Colour {
    fn code(self) -> u8 {
        match self {
            Self::Green => 32,
            Self::Yellow => 33,
            Self::Red => 31,
            Self::Grey => 90,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_three_spaces_apart_and_colours_do_not_count() {
        let rows = [
            vec![Cell::from("NAME"), "STATUS".into(), "PORT".into()],
            vec![
                "a-long-name".into(),
                Cell::coloured("running", Colour::Green),
                "1".into(),
            ],
        ];
        assert_eq!(
            layout(&rows, false),
            "NAME          STATUS    PORT\na-long-name   running   1\n"
        );
        assert_eq!(
            layout(&rows, true),
            "NAME          STATUS    PORT\na-long-name   \x1b[32mrunning\x1b[0m   1\n"
        );
    }

    #[test]
    fn a_foreign_text_cannot_speak_to_the_terminal() {
        assert_eq!(
            layout(&[vec!["a\x1b[2J\nb".to_owned().into()]], true),
            "a [2J b\n"
        );
    }
}
