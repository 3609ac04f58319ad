//! Lists that are shown a page at a time, the newest first: what their addresses say, and where the next page begins.

/// The most records on one page.
const LARGEST: u32 = 200;

/// What an address asks of a list.
pub(super) struct Given(Vec<(String, String)>);

impl Given {
    /// A form sends its empty fields too; they ask for nothing.
    pub(super) fn in_query(query: Option<&str>) -> Self {
        let all = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        let said = all.filter(|(_, value)| !value.is_empty());
        Given(said.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As a query.
    pub(super) fn query(&self) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.0).finish()
    }

    /// The link to the page that begins before this number.
    pub(super) fn older(&self, before: i64) -> String {
        let mut given: Vec<_> = self.0.iter().filter(|(name, _)| name != "before").cloned().collect();
        given.push(("before".to_owned(), before.to_string()));
        format!("?{}", Given(given).query())
    }
}

/// Reads every parameter of a query. `read` takes one and says what is wrong with its value, or false if it knows none of
/// that name; `known` names those that it does.
pub(super) fn each_parameter(
    query: &str,
    known: &str,
    mut read: impl FnMut(&str, &str) -> Result<bool, String>,
) -> Result<(), String> {
    let mut seen = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if !read(&name, &value).map_err(|why| format!("{name}={value}: {why}"))? {
            return Err(format!("unknown parameter {name}; known are {known}"));
        }
        if seen.contains(&name) {
            return Err(format!("{name} is given twice"));
        }
        seen.push(name);
    }
    Ok(())
}

/// How many records are wanted.
pub(super) fn limit(value: &str) -> Result<u32, String> {
    let limit = value.parse().ok().filter(|limit| (1..=LARGEST).contains(limit));
    limit.ok_or_else(|| format!("a number from 1 to {LARGEST}"))
}

/// Before which record the page begins; `what` it is the number of.
pub(super) fn before(value: &str, what: &str) -> Result<i64, String> {
    value.parse().ok().filter(|&before| before > 0).ok_or_else(|| format!("{what}'s number"))
}

/// Of records of which one more was asked for than a page has: the page, and the last one's number where more follow.
pub(super) fn page<T>(mut records: Vec<T>, wanted: u32, number: impl Fn(&T) -> i64) -> (Vec<T>, Option<i64>) {
    let wanted = wanted as usize;
    let more = records.len() > wanted;
    records.truncate(wanted);
    let next = records.last().filter(|_| more).map(number);
    (records, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_next_page_begins() {
        let check = |there: i64, wanted, expected: (usize, Option<i64>)| {
            let (page, next) = page((1..=there).rev().collect(), wanted, |number| *number);
            assert_eq!((page.len(), next), expected, "{wanted} of {there}");
        };
        check(3, 2, (2, Some(2)));
        check(2, 2, (2, None));
        check(0, 2, (0, None));
        let given = Given::in_query(Some("branch=a%2Fb&before=9&repo="));
        assert_eq!(
            (given.query().as_str(), given.older(7).as_str()),
            ("branch=a%2Fb&before=9", "?branch=a%2Fb&before=7")
        );
        assert!(Given::in_query(Some("repo=&branch=")).is_empty());
    }
}
