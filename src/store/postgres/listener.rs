//! Hears what other processes tell through the database.

use std::time::Duration;

use sqlx::postgres::{PgListener, PgPool};
use tokio::time::{sleep, timeout};

use super::{Connector, PATIENCE};
use crate::store::news::{self, CHANNEL, News};

/// When nothing was heard for so long, the server is asked whether it is still there: a connection may end without a word.
const SILENCE: Duration = Duration::from_secs(30);
/// How long to wait before the server is asked again, at first and at most.
const SOON: Duration = Duration::from_millis(100);
const LATER: Duration = Duration::from_secs(5);

/// Listens until the store is gone. What was told while nobody listened is not known: then everybody looks.
pub(in crate::store) async fn listen(connector: Connector, news: News, us: u32) {
    let pool = connector.listening();
    let mut wait = SOON;
    loop {
        match begin(&pool).await {
            Ok(mut listener) => {
                wait = SOON;
                news.tell_all();
                let error = hear(&mut listener, &news, us).await;
                tracing::warn!(%error, "the connection that hears of changes was lost; until it is found, they are polled for");
            }
            Err(error) => tracing::debug!(%error, "nobody tells of changes yet"),
        }
        sleep(wait).await;
        wait = (wait * 2).min(LATER);
    }
}

async fn begin(pool: &PgPool) -> Result<PgListener, sqlx::Error> {
    let begun = async {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        Ok(listener)
    };
    timeout(PATIENCE, begun).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// Hands on what is told, until the connection is lost.
async fn hear(listener: &mut PgListener, news: &News, us: u32) -> sqlx::Error {
    loop {
        match timeout(SILENCE, listener.try_recv()).await {
            Ok(Ok(Some(notification))) => {
                let topic = news::heard(notification.payload(), us);
                news.tell(&topic.into_iter().collect());
            }
            Ok(Ok(None)) => return sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into()),
            Ok(Err(error)) => return error,
            Err(_) => {
                let answered = timeout(PATIENCE, sqlx::query("SELECT 1").execute(&mut *listener)).await;
                if let Err(error) = answered.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
                    return error;
                }
            }
        }
    }
}
