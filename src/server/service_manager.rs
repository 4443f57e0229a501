//! What the service manager learns about the process (sd_notify).

/// Tells the service manager what the process does, if there is one.
pub(super) fn notify(states: &[sd_notify::NotifyState<'_>]) {
    // An error means that there is no service manager.
    let _ = sd_notify::notify(states);
}

/// Tells the service manager that the process is alive, twice per requested interval.
pub(super) async fn watchdog() {
    let Some(interval) = sd_notify::watchdog_enabled() else {
        return;
    };
    loop {
        notify(&[sd_notify::NotifyState::Watchdog]);
        tokio::time::sleep(interval / 2).await;
    }
}
