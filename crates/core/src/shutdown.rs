//! The one way in which tasks learn that they are to stop.

use tokio::sync::watch;

/// Completes when the service, or the lane, is to stop.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A dropped sender means that the service is gone: that is a stop as well.
    let _ = stop.wait_for(|stop| *stop).await;
}
