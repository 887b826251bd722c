//! Custom requests: they reach the server as the user wrote them. If the nonce comes back the oracle still
//! works; otherwise its figures are unknown.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::common::{Ran, directory, plain, program, run};
use pool_common::testing::servers::{NginxServer, RedisServer};

fn assert_ran(ran: &Ran, rows: usize) {
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    assert_eq!(ran.rows().len(), rows, "{}", ran.all());
    for row in ran.rows() {
        assert!(row["requests"].as_u64().unwrap() > 0, "{row:#}");
        assert_eq!(row["errors"], 0, "{row:#}");
        assert_eq!(row["leaked"].as_u64().unwrap_or(0), 0, "{row:#}");
    }
}

const HTTP: [&str; 6] =
    ["--protocol", "http1,http2", "--contestant", "limit,no-pool,net-http", "--callers", "4"];

#[test]
fn a_method_a_path_and_a_body_keep_the_oracle() {
    let own = ["--method", "put", "--path", "/items?page=2", "--body-size", "70000"];
    let ran = run("own-http", &[&HTTP[..], &own].concat());
    // Over HTTP/2 there are three limits.
    assert_ran(&ran, 8);
    for row in ran.rows() {
        assert_eq!((&row["mismatches"], &row["duplicates"]), (&0.into(), &0.into()), "{row:#}");
    }
    let page = std::fs::read_to_string(ran.out.join("report.html")).unwrap();
    assert_eq!(page.matches(", PUT /items?page=2 with 70000 bytes: capacity").count(), 2);
    let request = &ran.results["options"]["request"];
    assert_eq!(request["method"], "PUT");
    assert_eq!(request["path"], "/items?page=2");
    assert_eq!(request["body_bytes"], 70000);
    assert!(request["command"].is_null() && request["think_time_ms"].is_null(), "{request}");
    let words: Vec<&str> = ran.stdout.split_whitespace().collect();
    let title = "PUT /items?page=2 with 70000 bytes";
    assert_eq!(words.join(" ").matches(title).count(), 2, "{}", ran.stdout);
}

#[test]
fn a_reply_without_a_body_has_no_nonce_to_compare() {
    let ran = run("own-head", &[&HTTP[..], &["--method", "HEAD"]].concat());
    // Over HTTP/2 there are three limits.
    assert_ran(&ran, 8);
    for row in ran.rows() {
        assert!(row["mismatches"].is_null(), "{row:#}");
        assert_eq!(row["duplicates"], 0, "the request has a nonce: {row:#}");
    }
    let warnings = ran.results["warnings"].to_string();
    assert!(warnings.contains("--method HEAD"), "{warnings}");
}

#[test]
fn a_command_without_a_nonce_leaves_the_oracle_unknown() {
    let options = ["--protocol", "resp", "--contestant", "limit,no-pool,redigo", "--callers", "4"];
    for command in ["SET key value", "GET nothing-there", "PING"] {
        let ran = run("own-command", &[&options[..], &["--command", command]].concat());
        assert_ran(&ran, 3);
        for row in ran.rows() {
            for unknown in ["mismatches", "duplicates", "write_duplicates"] {
                assert!(row[unknown].is_null(), "{command}: {unknown} of {row:#}");
            }
            assert_eq!(row["leaked"], 0, "sockets are counted all the same");
            assert!(row["high_water_open"].as_u64().unwrap() > 0, "{row:#}");
        }
        assert_eq!(ran.results["options"]["request"]["command"], command);
        let warnings = ran.results["warnings"].to_string();
        assert!(warnings.contains(command) && warnings.contains("no nonce"), "{warnings}");
        let words: Vec<&str> = ran.stdout.split_whitespace().collect();
        assert!(words.join(" ").contains(command), "{}", ran.stdout);
    }
    let ran = run("own-unknown", &[&options[..], &["--command", "NONSENSE"]].concat());
    assert_eq!(ran.code, Some(2), "{}", ran.all());
    assert!(ran.stderr.contains("ERR unknown command 'NONSENSE'"), "{}", ran.stderr);
}

#[test]
fn callers_that_think_send_less() {
    let options = ["--protocol", "framed,http1", "--contestant", "limit,redigo", "--callers", "2"];
    let ran = run("think", &[&options[..], &["--think-time", "25ms"]].concat());
    assert_ran(&ran, 4);
    for row in ran.rows() {
        // 2 callers, each at most once in 25 ms and once more, in a window of at least 60 ms.
        let most = 2.0 / 0.025 + 2.0 / 0.060;
        assert!(row["throughput_per_s"].as_f64().unwrap() <= most, "{row:#}");
    }
    assert_eq!(ran.results["options"]["request"]["think_time_ms"], 25.0);
    let words: Vec<&str> = ran.stdout.split_whitespace().collect();
    assert!(words.join(" ").contains("think time 25ms"), "{}", ran.stdout);
}

#[test]
fn runs_with_different_requests_are_no_comparison() {
    let out = directory("own-compared");
    let results = |name: &str, own: &[&str]| {
        let options =
            "run --protocol http1 --contestant net-http --callers 2 --duration 20ms --rounds 2";
        let out = out.join(name);
        let ran = program().args(options.split(' ')).args(own).arg("--out").arg(&out).output();
        assert_eq!(ran.unwrap().status.code(), Some(0), "{own:?}");
        out.join("results.json").display().to_string()
    };
    let built_in = results("a", &[]);
    let own = results("b", &["--body-size", "9", "--think-time", "1ms"]);
    let why = "request: the built-in one and POST / with 9 bytes";
    let ran = plain(&["compare", &built_in, &own]);
    assert_eq!(ran.code, Some(2), "{}", ran.all());
    assert!(ran.stderr.contains(why) && ran.stderr.contains("think time: none and 1ms"));
    let merged = out.join("merged.json");
    let ran = plain(&["merge", &built_in, &own, "--out", merged.to_str().unwrap()]);
    assert_eq!(ran.code, Some(2), "{}", ran.all());
    assert!(ran.stderr.contains(why) && !merged.exists(), "{}", ran.all());
    let page = out.join("page.html");
    let ran = plain(&["report", &built_in, &own, "--out", page.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("not the same comparison as in the first file") && page.contains(why));
}

#[test]
fn a_path_reaches_nginx() {
    let server = NginxServer::start(
        r#"location /items { return 200 "an item of some length"; } location / { return 404; }"#,
    );
    let target = format!("http://{}", server.addr());
    let options = ["--contestant", "limit,no-pool,go-redis", "--callers", "4", "--target", &target];
    let ran = run("own-nginx-404", &options);
    assert!(ran.stdout.contains("answers 404"), "{}", ran.stdout);
    for own in [&["--path", "/items/7"][..], &["--path", "/items", "--body-size", "9"]] {
        let ran = run("own-nginx", &[&options[..], own].concat());
        assert_ran(&ran, 3);
        assert_eq!(ran.results["options"]["request"]["path"], own[1]);
        assert!(!ran.stdout.contains("404"), "{}", ran.stdout);
        assert!(ran.rows().iter().all(|row| row["mismatches"].is_null()));
    }
    // A path of the URL is no other request than that of --path.
    let url = format!("{target}/items/7");
    let ran = run("own-nginx", &["--contestant", "go-redis", "--target", &url]);
    assert_ran(&ran, 1);
    assert_eq!(ran.results["options"]["request"]["path"], "/items/7");
    assert!(ran.stdout.contains("GET /items/7"), "{}", ran.stdout);
}

#[test]
fn a_command_reaches_redis_and_its_replies_may_grow() {
    let server = RedisServer::start(&[]);
    let target = format!("redis://{}", server.addr());
    let ran = run(
        "own-redis",
        &[
            "--contestant",
            "limit,no-pool,redigo",
            "--callers",
            "4",
            "--command",
            "INCR counter",
            "--target",
            &target,
        ],
    );
    assert_ran(&ran, 3);
    let requests: u64 = ran.rows().iter().map(|row| row["requests"].as_u64().unwrap()).sum();
    assert!(requests > 10, "replies have several lengths");
    let mut stream = TcpStream::connect(server.addr()).unwrap();
    stream.write_all(b"GET counter\r\n").unwrap();
    let mut reply = [0; 64];
    let length = stream.read(&mut reply).unwrap();
    let text = String::from_utf8_lossy(&reply[..length]).into_owned();
    let counter: u64 = text.split("\r\n").nth(1).unwrap().parse().unwrap();
    assert!(counter >= requests, "{counter} of {requests}");
}
