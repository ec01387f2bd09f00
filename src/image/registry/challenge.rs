//! `WWW-Authenticate`: what a registry wants to see (RFC 9110 section 11.6.1).

/// One challenge that we can answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password.
    Basic,
    /// A token from the server at `realm`.
    Bearer {
        /// The token server's URL.
        realm: String,
        /// Whom the token is for.
        service: Option<String>,
        /// What it allows; a registry may leave it out.
        scope: Option<String>,
    },
}

/// Longest header looked at.
const MAX_HEADER: usize = 8 << 10;

/// The challenges of all headers that we understand. Others are skipped.
pub(super) fn parse<'a>(headers: impl Iterator<Item = &'a str>) -> Vec<Challenge> {
    let headers = headers.filter(|header| header.len() <= MAX_HEADER);
    headers.flat_map(parse_header).collect()
}

fn parse_header(header: &str) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    let mut rest = header.trim_start();
    while !rest.is_empty() {
        let (scheme, after) = token(rest);
        if scheme.is_empty() {
            break;
        }
        let (parameters, after) = parameters(after);
        rest = after.trim_start_matches([' ', '\t', ',']);
        let get = |name: &str| {
            let found = parameters
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.clone())
        };
        if scheme.eq_ignore_ascii_case("basic") {
            challenges.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = get("realm")
        {
            challenges.push(Challenge::Bearer {
                realm,
                service: get("service"),
                scope: get("scope"),
            });
        }
    }
    challenges
}

/// A run of token characters, and what follows.
fn token(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)))
        .unwrap_or(text.len());
    text.split_at(end)
}

/// `name=value` pairs with commas between, up to the next scheme (a token without `=`).
fn parameters(text: &str) -> (Vec<(String, String)>, &str) {
    let mut parameters = Vec::new();
    let mut rest = text;
    loop {
        let start = rest.trim_start_matches([' ', '\t', ',']);
        let (name, after) = token(start);
        let Some(after) = after
            .trim_start()
            .strip_prefix('=')
            .filter(|_| !name.is_empty())
        else {
            return (parameters, start);
        };
        let after = after.trim_start();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted_string(quoted),
            None => {
                let (value, after) = token(after);
                (value.to_owned(), after)
            }
        };
        parameters.push((name.to_owned(), value));
        rest = after;
    }
}

/// The inside of a quoted string and what follows its end quote.
fn quoted_string(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return (value, &text[index + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
            scope: scope.map(Into::into),
        }
    }

    #[test]
    fn challenges_of_real_registries_are_understood() {
        let table = [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/busybox:pull""#,
                vec![bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    Some("repository:library/busybox:pull"),
                )],
            ),
            (r#"Basic realm="Registry Realm""#, vec![Challenge::Basic]),
            ("basic", vec![Challenge::Basic]),
            (
                r#"Bearer realm="https://a/t", service=b , Basic realm="x", Bearer realm=c"#,
                vec![
                    bearer("https://a/t", Some("b"), None),
                    Challenge::Basic,
                    bearer("c", None, None),
                ],
            ),
            (r#"Negotiate, Basic realm="a\"b""#, vec![Challenge::Basic]),
            (r#"BEARER REALM="u""#, vec![bearer("u", None, None)]),
            (r#"Bearer service="no realm""#, vec![]),
            (
                r#"Bearer realm="unterminated"#,
                vec![bearer("unterminated", None, None)],
            ),
            ("", vec![]),
            ("\"\"\"", vec![]),
            ("=,=,=", vec![]),
        ];
        for (header, want) in table {
            assert_eq!(parse([header].into_iter()), want, "{header}");
        }
    }

    proptest::proptest! {
        #[test]
        fn parsing_ends_and_never_panics(header in "[ -~]{0,200}|[a-c =,\"\\\\]{0,60}") {
            parse([header.as_str()].into_iter());
        }
    }
}
