//! Patterns of names: `*`, `?`, `[a-z]`, `[^a]`, and `\` before a character that means itself.

/// Whether a name matches. A pattern that is none (a bracket that is not closed) matches nothing.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    // Where to go back to: after the last star, with one character more eaten by it.
    let mut star = None;
    let (mut p, mut n) = (0, 0);
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p + 1, n));
            p += 1;
            continue;
        }
        match one(&pattern[p..], name[n]) {
            Fit::Yes(used) => (p, n) = (p + used, n + 1),
            Fit::No => match star {
                Some((after, eaten)) => {
                    (p, n) = (after, eaten + 1);
                    star = Some((after, eaten + 1));
                }
                None => return false,
            },
            Fit::NoPattern => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Whether the beginning of a pattern stands for one character.
enum Fit {
    /// It does, with so much of the pattern.
    Yes(usize),
    /// It stands for others.
    No,
    /// It is no pattern.
    NoPattern,
}

impl Fit {
    fn when(fits: bool, used: usize) -> Self {
        if fits { Self::Yes(used) } else { Self::No }
    }
}

fn one(pattern: &[char], c: char) -> Fit {
    match pattern.first() {
        None => Fit::No,
        Some('?') => Fit::Yes(1),
        Some('[') => class(pattern, c).unwrap_or(Fit::NoPattern),
        Some('\\') => match pattern.get(1) {
            Some(literal) => Fit::when(*literal == c, 2),
            None => Fit::NoPattern,
        },
        Some(literal) => Fit::when(*literal == c, 1),
    }
}

/// `None` where the bracket is not closed.
fn class(pattern: &[char], c: char) -> Option<Fit> {
    let mut at = 1;
    let negated = pattern.get(at) == Some(&'^');
    at += usize::from(negated);
    let mut found = false;
    let first = at;
    while *pattern.get(at)? != ']' || at == first {
        let (low, next) = member(pattern, at)?;
        let (high, next) = if pattern.get(next) == Some(&'-') && *pattern.get(next + 1)? != ']' {
            member(pattern, next + 1)?
        } else {
            (low, next)
        };
        found |= (low..=high).contains(&c);
        at = next;
    }
    Some(Fit::when(found != negated, at + 1))
}

fn member(pattern: &[char], at: usize) -> Option<(char, usize)> {
    match pattern.get(at)? {
        '\\' => Some((*pattern.get(at + 1)?, at + 2)),
        c => Some((*c, at + 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_are_those_of_a_shell() {
        for (pattern, name, expected) in [
            ("*", "anything", true),
            ("*.env", ".env", true),
            ("*.env", "a.env.b", false),
            ("a*b*c", "a-b-b-c", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("[a", "[a", false),
            (r"\*", "*", true),
            (r"\*", "a", false),
            ("", "", true),
            ("", "a", false),
            ("id_*", "id_rsa", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
