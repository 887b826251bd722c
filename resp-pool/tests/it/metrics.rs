//! A client reports under the names for database clients.

use metrics_util::debugging::DebuggingRecorder;
use resp_pool::Client;

#[test]
fn a_client_reports_as_a_database_client_does() {
    let recorder = DebuggingRecorder::new();
    let client = metrics::with_local_recorder(&recorder, || {
        Client::builder().metrics("cache").build().expect("valid defaults")
    });
    let names: Vec<String> = recorder
        .snapshotter()
        .snapshot()
        .into_vec()
        .into_iter()
        .map(|(key, ..)| key.key().to_string())
        .collect();
    let found = |name: &str| names.iter().any(|key| key.contains(name) && key.contains("cache"));
    assert!(found("db.client.connection.count"), "{names:?}");
    assert!(found("db.client.connection.wait_time"), "{names:?}");
    drop(client);
}
