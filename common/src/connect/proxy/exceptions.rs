//! Hosts that are reached without a proxy.

use std::fmt;
use std::net::IpAddr;

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;

/// The list of `no_proxy`. Compares hosts with the matcher of hyper-util, which is that of reqwest.
pub(super) struct Exceptions {
    /// Each host is one, so no proxy is used at all.
    all: bool,
    /// The entries in the form that the matcher understands.
    list: String,
    matcher: Matcher,
}

impl Exceptions {
    /// Reads a list.
    ///
    /// # Errors
    /// Why an entry would have no effect.
    pub(super) fn new(text: &str) -> Result<Self, &'static str> {
        let entries = text.split([',', ' ', '\t', '\n']).filter(|entry| !entry.is_empty());
        let entries: Vec<&str> = entries.map(plain).collect::<Result<_, _>>()?;
        let list = entries.join(",");
        // Any proxy: only whether one is to be used is asked.
        let matcher = Matcher::builder().all("http://proxy.invalid").no(&list).build();
        Ok(Self { all: entries.contains(&"*"), list, matcher })
    }

    /// Whether each host is one.
    pub(super) fn hold_all(&self) -> bool {
        self.all
    }

    /// Whether the host of `uri` is one.
    pub(super) fn hold(&self, uri: &Uri) -> bool {
        if self.all {
            return true;
        }
        // The same name with the dot of the root.
        if let Some(host) = uri.host().and_then(|host| host.strip_suffix('.')) {
            let same = Uri::builder().scheme("http").authority(host).path_and_query("/").build();
            return same.is_ok_and(|uri| self.matcher.intercept(&uri).is_none());
        }
        self.matcher.intercept(uri).is_none()
    }
}

/// An entry without what only some programs write.
fn plain(entry: &str) -> Result<&str, &'static str> {
    if !entry.is_ascii() {
        return Err("an entry is not in ASCII, as hosts of URIs are (Punycode)");
    }
    let entry = entry.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(entry);
    if entry != "*" && entry.contains('*') {
        return Err(
            "an entry has a * that is neither all of it nor its first part, as in *.a.example",
        );
    }
    if let Some((address, bits)) = entry.split_once('/') {
        let most =
            address.parse().ok().map(|address: IpAddr| if address.is_ipv4() { 32 } else { 128 });
        let bits = bits.parse::<u8>().ok();
        let fits = most.zip(bits).is_some_and(|(most, bits)| bits <= most);
        return if fits {
            Ok(entry)
        } else {
            Err("an entry with / is not a network, as 10.0.0.0/8 is")
        };
    }
    let bare = entry.strip_prefix('[').and_then(|entry| entry.strip_suffix(']')).unwrap_or(entry);
    if bare.contains(':') && bare.parse::<IpAddr>().is_err() {
        return Err("an entry has a port, which cannot be given here");
    }
    Ok(bare.strip_suffix('.').filter(|name| !name.is_empty()).unwrap_or(bare))
}

impl PartialEq for Exceptions {
    fn eq(&self, other: &Self) -> bool {
        self.list == other.list
    }
}

impl Eq for Exceptions {}

impl fmt::Debug for Exceptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.list.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(list: &str, host: &str) -> bool {
        let uri = format!("https://{host}:8443/path").parse().expect("a URI");
        Exceptions::new(list).expect("a list").hold(&uri)
    }

    #[test]
    fn domains_suffixes_addresses_and_networks_are_exceptions() {
        let list = "localhost, .a.example b.example,*.c.example, d.example., 10.0.0.0/8, 192.168.1.7, [::1], fe80::/10";
        for host in [
            "localhost",
            "LOCALHOST",
            "localhost.",
            "a.example",
            "x.y.a.example",
            "b.example",
            "x.B.example",
            "x.c.example",
            "d.example",
            "10.1.2.3",
            "192.168.1.7",
            "[::1]",
            "[fe80::1]",
        ] {
            assert!(holds(list, host), "{host}");
        }
        for host in [
            "xlocalhost",
            "xa.example",
            "example",
            "b.example.org",
            "11.1.2.3",
            "192.168.1.8",
            "[::2]",
            "[fd00::1]",
        ] {
            assert!(!holds(list, host), "{host}");
        }
    }

    #[test]
    fn a_star_means_every_host_and_an_empty_list_none() {
        for host in ["a.example", "10.0.0.1", "[::1]"] {
            assert!(holds("b.example, *", host), "{host}");
            assert!(!holds("", host) && !holds(" , ", host), "{host}");
        }
    }
}
