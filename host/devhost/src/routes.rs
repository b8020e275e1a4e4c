//! Which component answers a path: an exact route first, then the longest `/...` prefix.

use std::sync::Arc;

use crate::instance::Guest;

/// The routes of the application, the most particular ones first.
pub struct Routes<T = Arc<Guest>>(Vec<Route<T>>);

/// One route and what answers it.
pub struct Route<T = Arc<Guest>> {
    /// As the manifest writes it.
    pub pattern: String,
    /// Without a last `/...` and without a slash at the end.
    pub prefix: String,
    wildcard: bool,
    /// What answers.
    pub target: T,
}

impl<T> Routes<T> {
    /// Sorts the routes, given as pattern and target.
    pub fn new(routes: impl IntoIterator<Item = (String, T)>) -> Routes<T> {
        let mut routes: Vec<_> = routes
            .into_iter()
            .map(|(pattern, target)| {
                let fixed = pattern.strip_suffix("/...");
                let prefix = fixed.unwrap_or(&pattern).trim_end_matches('/').to_owned();
                Route {
                    prefix,
                    wildcard: fixed.is_some(),
                    pattern,
                    target,
                }
            })
            .collect();
        routes.sort_by_key(|route| (route.wildcard, std::cmp::Reverse(route.prefix.len())));
        Routes(routes)
    }

    /// The route of a path, and what follows its prefix. A slash at the end of the path makes no difference.
    pub fn find<'a>(&'a self, path: &'a str) -> Option<(&'a Route<T>, &'a str)> {
        self.0.iter().find_map(|route| {
            let rest = path.strip_prefix(route.prefix.as_str())?;
            let fits = match (route.wildcard, rest) {
                (_, "" | "/") => true,
                (true, rest) => rest.starts_with('/'),
                (false, _) => false,
            };
            fits.then_some((route, if route.wildcard { rest } else { "" }))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_beats_longest_prefix_beats_shorter() {
        let patterns = ["/...", "/a/...", "/a/b", "/a/b/...", "/x"];
        let routes = Routes::new(patterns.map(|pattern| (pattern.to_owned(), pattern)));
        let found = |path| routes.find(path).map(|(route, rest)| (route.target, rest));
        assert_eq!(found("/"), Some(("/...", "/")));
        assert_eq!(found("/other/z"), Some(("/...", "/other/z")));
        assert_eq!(found("/a"), Some(("/a/...", "")));
        assert_eq!(found("/ab"), Some(("/...", "/ab")));
        assert_eq!(found("/a/c"), Some(("/a/...", "/c")));
        assert_eq!(found("/a/b"), Some(("/a/b", "")));
        assert_eq!(found("/a/b/"), Some(("/a/b", "")));
        assert_eq!(found("/a/b/c"), Some(("/a/b/...", "/c")));
        assert_eq!(found("/x/y"), Some(("/...", "/x/y")));
    }

    #[test]
    fn a_path_without_a_route_is_not_found() {
        let routes = Routes::new([("/x".to_owned(), ())]);
        assert!(routes.find("/y").is_none());
        assert!(routes.find("/xy").is_none());
    }
}
