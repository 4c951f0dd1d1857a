//! Verbs of the audit log: reading it, and verifying its chain.

use serde_json::json;
use sqlx::sqlite::SqliteRow;
use sqlx::{Executor, Row as _, Sqlite};

use crate::moderation::{AuditEvent, AuditKind, ChainHash, PolicyId, Reviewer, Timestamp};

use super::rows::{RowError, unreadable};
use super::{Store, StoreError, append_audit, commitment, hex};

/// Events that are read in one go.
const PAGE: u32 = 5000;

/// One event with its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// Its place, from 1.
    pub sequence: i64,
    /// The event; its detail is what the chain holds.
    pub event: AuditEvent,
    /// What it says; none when that was erased.
    pub detail: Option<String>,
    salt: Option<Vec<u8>>,
    /// The hash over it and all before.
    pub hash: ChainHash,
}

/// What a person did about what was learned for a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterStep {
    /// Used, rolled back or removed.
    pub kind: AuditKind,
    /// For which policy.
    pub policy: PolicyId,
    /// The adapter that was used or removed.
    pub adapter: Option<PolicyId>,
    /// What is in force from now on; none for the words alone.
    pub live: Option<PolicyId>,
    /// What runs in the background from now on.
    pub background: Option<PolicyId>,
}

/// A chain that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// How many events.
    pub events: u64,
    /// Of these, how many had their detail erased.
    pub erased: u64,
    /// The last event's place; 0 without events.
    pub sequence: i64,
    /// The hash over everything.
    pub hash: ChainHash,
}

/// The first place where a chain does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainBreak {
    /// Places are missing or out of order.
    #[error("event {expected} is missing; the next one is {found}")]
    Missing {
        /// The place that should come next.
        expected: i64,
        /// The place that does.
        found: i64,
    },
    /// An event, or one before it, is not what it was.
    #[error("event {sequence} is not what was sealed: it or one before it was changed")]
    Changed {
        /// Its place.
        sequence: i64,
    },
    /// The detail is not the one that the chain holds the seal of.
    #[error("the detail of event {sequence} was changed")]
    Detail {
        /// Its place.
        sequence: i64,
    },
    /// The detail is gone, and no erasure says so.
    #[error("the detail of event {sequence} is gone, and no erasure accounts for it")]
    Gone {
        /// Its place.
        sequence: i64,
    },
    /// The anchor's event is not there any more: the tail was cut.
    #[error("the log ends at event {last}, before the anchor's {anchor}: its tail was cut")]
    Cut {
        /// The last event.
        last: i64,
        /// The anchor's event.
        anchor: i64,
    },
    /// The anchor's event is another one now.
    #[error("event {sequence} is not the one that the anchor names: the log was rewritten")]
    Anchor {
        /// Its place.
        sequence: i64,
    },
}

impl Store {
    /// The place of the last event; 0 without events. One index look-up.
    pub async fn last_audit_event(&self) -> Result<i64, StoreError> {
        last_sequence(&self.readers).await.map_err(|source| self.sql(source))
    }

    /// The events after this place, oldest first.
    pub async fn audit_events(&self, after: i64, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        let read = async {
            let rows = sqlx::query(
                "SELECT e.sequence, e.at, e.kind, e.actor, e.detail AS sealed, e.hash, d.detail,
                        d.salt
                 FROM audit_events AS e LEFT JOIN audit_details AS d ON d.sequence = e.sequence
                 WHERE e.sequence > ? ORDER BY e.sequence LIMIT ?",
            )
            .bind(after)
            .bind(limit)
            .fetch_all(&self.readers)
            .await?;
            rows.iter().map(audit_row_of).collect::<Result<_, _>>()
        };
        read.await.map_err(|error| self.failed(error))
    }

    /// Appends a step to the log; the adapters themselves are files.
    pub async fn record_adapter_step(
        &self,
        step: &AdapterStep,
        reviewer: &Reviewer,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let name = |name: &Option<PolicyId>| name.as_ref().map(|name| name.as_str().to_owned());
        let detail = json!({
            "policy": step.policy.as_str(),
            "adapter": name(&step.adapter),
            "live": name(&step.live),
            "background": name(&step.background),
        });
        let actor = reviewer.as_str().to_owned();
        let event = AuditEvent { at, kind: step.kind, actor, detail: detail.to_string() };
        let mut transaction = self.begin().await?;
        let appended = append_audit(&mut transaction, &[event]).await;
        appended.map_err(|source| self.sql(source))?;
        self.commit(transaction).await
    }

    /// Seals everything again from the first event. `anchor` is a place and its hash that were
    /// written down elsewhere before.
    pub async fn verify_audit(
        &self,
        anchor: Option<(i64, ChainHash)>,
    ) -> Result<Result<Chain, ChainBreak>, StoreError> {
        let accounted = self.erased_events().await?;
        let mut chain = Chain { events: 0, erased: 0, sequence: 0, hash: ChainHash::GENESIS };
        loop {
            let page = self.audit_events(chain.sequence, PAGE).await?;
            for row in &page {
                if let Err(broken) = chain.follow(row) {
                    return Ok(Err(broken));
                }
                if let Some((sequence, hash)) = anchor
                    && row.sequence == sequence
                    && row.hash != hash
                {
                    return Ok(Err(ChainBreak::Anchor { sequence }));
                }
                if row.detail.is_none() && !accounted.contains(&row.sequence) {
                    return Ok(Err(ChainBreak::Gone { sequence: row.sequence }));
                }
            }
            if page.len() < PAGE as usize {
                break;
            }
        }
        let cut = anchor.filter(|(sequence, _)| *sequence > chain.sequence);
        Ok(match cut {
            Some((anchor, _)) => Err(ChainBreak::Cut { last: chain.sequence, anchor }),
            None => Ok(chain),
        })
    }

    /// The places whose details were erased, as the erasures themselves (which are in the chain)
    /// name them.
    async fn erased_events(&self) -> Result<std::collections::HashSet<i64>, StoreError> {
        let rows = sqlx::query(
            "SELECT e.value FROM audit_events AS a
             JOIN audit_details AS d ON d.sequence = a.sequence,
                  json_each(d.detail, '$.events') AS e
             WHERE a.kind = 'erased'",
        )
        .fetch_all(&self.readers)
        .await
        .map_err(|source| self.sql(source))?;
        let places = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>();
        places.map_err(|source| self.sql(source))
    }
}

/// The place of the last event; 0 without events.
pub(super) async fn last_sequence(
    executor: impl Executor<'_, Database = Sqlite>,
) -> Result<i64, sqlx::Error> {
    let last = sqlx::query("SELECT coalesce(max(sequence), 0) FROM audit_events");
    last.fetch_one(executor).await?.try_get(0)
}

impl Chain {
    /// One link further.
    fn follow(&mut self, row: &AuditRow) -> Result<(), ChainBreak> {
        let sequence = row.sequence;
        if sequence != self.sequence + 1 {
            return Err(ChainBreak::Missing { expected: self.sequence + 1, found: sequence });
        }
        if row.event.seal(self.hash) != row.hash {
            return Err(ChainBreak::Changed { sequence });
        }
        match (&row.detail, &row.salt) {
            (Some(detail), Some(salt)) => {
                let sealed = format!("{{\"sealed\":\"{}\"}}", hex(&commitment(salt, detail)));
                if sealed != row.event.detail {
                    return Err(ChainBreak::Detail { sequence });
                }
            }
            // Events of the first version hold their detail in the chain itself.
            (Some(_), None) => {}
            (None, _) => self.erased += 1,
        }
        self.events += 1;
        (self.sequence, self.hash) = (sequence, row.hash);
        Ok(())
    }
}

fn audit_row_of(row: &SqliteRow) -> Result<AuditRow, RowError> {
    let kind: String = row.try_get("kind")?;
    let hash: &[u8] = row.try_get("hash")?;
    let sealed: String = row.try_get("sealed")?;
    let salt: Option<Vec<u8>> = row.try_get("salt")?;
    let kept: Option<String> = row.try_get("detail")?;
    let plain = (!sealed.starts_with("{\"sealed\":")).then(|| sealed.clone());
    Ok(AuditRow {
        sequence: row.try_get("sequence")?,
        event: AuditEvent {
            at: Timestamp(row.try_get("at")?),
            kind: AuditKind::parse(&kind).ok_or_else(|| unreadable("kind of event", kind))?,
            actor: row.try_get("actor")?,
            detail: sealed,
        },
        detail: kept.or(plain),
        salt,
        hash: ChainHash(
            hash.try_into().map_err(|_torn| unreadable("hash of an event", hex(hash)))?,
        ),
    })
}
