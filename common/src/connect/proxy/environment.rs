//! The rules that the environment gives.

use std::env;

use super::{InvalidProxy, Proxy, ProxyBuilder, Setting};

/// The names of each variable, the first that is set counts.
const HTTP: [&str; 2] = ["HTTP_PROXY", "http_proxy"];
const HTTPS: [&str; 2] = ["HTTPS_PROXY", "https_proxy"];
const ALL: [&str; 2] = ["ALL_PROXY", "all_proxy"];
const NO: [&str; 2] = ["NO_PROXY", "no_proxy"];

impl Proxy {
    /// The proxies of the environment: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, or the same in
    /// lower case. No proxy where they are empty or not there.
    ///
    /// In a CGI program, which has `REQUEST_METHOD` set, a client of the program chooses `HTTP_PROXY` by a
    /// header, so there only `http_proxy` counts (httpoxy). As in curl, loopback addresses are an
    /// exception only if `NO_PROXY` has them.
    ///
    /// # Errors
    /// [`InvalidProxy`] names the variable that cannot be used.
    pub fn from_env() -> Result<Self, InvalidProxy> {
        // What is no text becomes one that cannot be used, since a variable that is ignored means no proxy.
        Self::from_variables(|name| Some(env::var_os(name)?.to_string_lossy().into_owned()))
    }

    /// As [`from_env`](Self::from_env), with the variables that `read` knows.
    ///
    /// ```
    /// use pool_common::connect::Proxy;
    ///
    /// let read = |name: &str| (name == "HTTPS_PROXY").then(|| "http://proxy:3128".to_owned());
    /// assert_eq!(Proxy::from_variables(read)?, Proxy::builder().https("http://proxy:3128").build()?);
    /// # Ok::<(), pool_common::connect::InvalidProxy>(())
    /// ```
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub fn from_variables(read: impl Fn(&str) -> Option<String>) -> Result<Self, InvalidProxy> {
        let first = |names: &[&'static str]| {
            let set = names.iter().map(|&name| (name, read(name).unwrap_or_default()));
            let found = set.into_iter().find(|(_, text)| !text.is_empty());
            found.map(|(name, text)| Setting { name, text }).unwrap_or_default()
        };
        let http = if read("REQUEST_METHOD").is_some() { &HTTP[1..] } else { &HTTP[..] };
        let builder = ProxyBuilder {
            all: first(&ALL),
            http: first(http),
            https: first(&HTTPS),
            no_proxy: first(&NO),
        };
        builder.build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<Proxy, InvalidProxy> {
        Proxy::from_variables(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, text)| (*text).to_owned())
        })
    }

    #[test]
    fn variables_become_rules() {
        let none = Proxy::builder().build();
        assert_eq!(from(&[]), none);
        assert_eq!(from(&[("HTTP_PROXY", ""), ("NO_PROXY", "")]), none);
        let both = Proxy::builder().http("a:1").https("b:2").no_proxy("c").build();
        assert_eq!(from(&[("http_proxy", "a:1"), ("HTTPS_PROXY", "b:2"), ("no_proxy", "c")]), both);
        assert_eq!(from(&[("all_proxy", "a:1")]), Proxy::new("a:1"));
        let upper_first = from(&[("HTTPS_PROXY", "a:1"), ("https_proxy", "b:2")]);
        assert_eq!(upper_first, Proxy::builder().https("a:1").build());
        // A proxy that no scheme needs is not looked at.
        let unused = [("ALL_PROXY", "socks5://c"), ("HTTP_PROXY", "a"), ("HTTPS_PROXY", "b")];
        assert_eq!(from(&unused), Proxy::builder().http("a").https("b").build());
    }

    #[test]
    fn a_variable_that_cannot_be_used_is_named() {
        let error = from(&[("all_proxy", "socks5h://me:secret@a")]).expect_err("SOCKS");
        let text = error.to_string();
        assert!(text.contains("all_proxy") && !text.contains("secret"), "{text}");
    }

    #[test]
    fn a_header_of_a_cgi_request_is_no_proxy() {
        let cgi = [("REQUEST_METHOD", "GET"), ("HTTP_PROXY", "evil:1")];
        assert_eq!(from(&cgi), Proxy::builder().build());
        let cgi = [("REQUEST_METHOD", "GET"), ("HTTP_PROXY", "evil:1"), ("http_proxy", "good:1")];
        assert_eq!(from(&cgi), Proxy::builder().http("good:1").build());
    }

    #[test]
    #[cfg(unix)]
    fn a_variable_that_is_no_text_is_an_error() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        use std::process::Command;

        const CHILD: &str = "POOL_TEST_VARIABLE";
        const NAME: &str =
            "connect::proxy::environment::tests::a_variable_that_is_no_text_is_an_error";
        if let Ok(variable) = env::var(CHILD) {
            let error = Proxy::from_env().expect_err("it is no text");
            assert!(error.to_string().contains(&variable), "{error}");
            return;
        }
        // A process of its own, since all tests of this one have the same environment.
        for variable in ["HTTPS_PROXY", "no_proxy"] {
            let mut child = Command::new(env::current_exe().expect("this program"));
            for known in [HTTP, HTTPS, ALL, NO].concat() {
                child.env_remove(known);
            }
            child.args(["--exact", NAME]).env(CHILD, variable);
            child.env(variable, OsStr::from_bytes(b"a\xff.example"));
            let output = child.output().expect("it runs");
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains("1 passed"), "{variable}: {text}");
        }
    }
}
