//! A client reports under the names for HTTP clients.

use h2_shared::Client;
use metrics_util::debugging::DebuggingRecorder;

#[test]
fn a_client_reports_as_an_http_client_does() {
    let recorder = DebuggingRecorder::new();
    let client = metrics::with_local_recorder(&recorder, || {
        Client::builder().metrics("upstream").build().expect("the defaults are valid")
    });
    let names: Vec<String> = recorder
        .snapshotter()
        .snapshot()
        .into_vec()
        .into_iter()
        .map(|(key, ..)| key.key().to_string())
        .collect();
    let found = |name: &str| names.iter().any(|key| key.contains(name) && key.contains("upstream"));
    assert!(found("http.client.open_connections"), "{names:?}");
    assert!(found("http.client.connection.duration"), "{names:?}");
    drop(client);
}
