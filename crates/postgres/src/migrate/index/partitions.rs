//! An index on a partitioned table: partition by partition, then attached.

use tokio_postgres::types::Type;

use super::super::Job;
use super::build::TRIES;
use super::{Ensured, Wanted};
use crate::errors::PostgresError;
use crate::sql;
use dinnerbell_config::TableName;

/// A table or partition, and the index of its parent to join.
struct TableOrPartition {
    table: TableName,
    partitioned: bool,
}

/// Partitioned tables: PostgreSQL builds no index on them concurrently. So: an empty one on the table alone, one on each
/// partition, concurrently, and each is attached; with the last one the first becomes valid.
impl Job<'_> {
    /// Makes an index unless something like it is there.
    pub(in crate::migrate) async fn ensure(&self, wanted: &Wanted) -> Result<Ensured, PostgresError> {
        if self.relkind().await?.as_deref() != Some("p") {
            return self.ensure_on(wanted, self.table()).await;
        }
        // Partitions can be added meanwhile: look again until the whole index calls itself valid.
        for _ in 0..TRIES {
            if let Some(there) = self.find_on(wanted, self.table()).await? {
                return Ok(there);
            }
            let top = TableOrPartition { table: self.table().clone(), partitioned: true };
            let answer = Box::pin(self.ensure_below(wanted, &top)).await?;
            if let Ensured::Duplicates = answer {
                self.forget_below(wanted).await?;
                return Ok(answer);
            }
        }
        Err(PostgresError::transient(format!(
            "{}: partitions of {} come and go while its index is built; run `dinnerbell migrate` again",
            self.pool.address(),
            self.table()
        )))
    }

    async fn ensure_below(&self, wanted: &Wanted, node: &TableOrPartition) -> Result<Ensured, PostgresError> {
        if !node.partitioned {
            return self.ensure_on(wanted, &node.table).await;
        }
        let name = self.ensure_parent(wanted, &node.table).await?;
        for partition in self.partitions(&node.table).await? {
            let part = match Box::pin(self.ensure_below(wanted, &partition)).await? {
                Ensured::There(part) | Ensured::ThereFrom { name: part, .. } => part,
                other => return Ok(other),
            };
            self.attach(node, &name, &partition, &part).await?;
        }
        Ok(Ensured::There(name))
    }

    /// The index on the partitioned table alone: it covers no row, and is not valid until every partition's is attached.
    async fn ensure_parent(&self, wanted: &Wanted, table: &TableName) -> Result<String, PostgresError> {
        let indexes = self.indexes(table).await?;
        if let Some(found) = indexes.iter().find(|found| wanted.is_served_by(found)) {
            return Ok(found.name.clone());
        }
        let name = wanted.name(&table.table);
        if indexes.iter().any(|found| found.is_ours(&name) && !found.valid) {
            self.drop_leftover(table, &name).await?;
        }
        self.with_short_lock(&wanted.sql("", &name, &format!("only {}", table.sql()))).await?;
        Ok(name)
    }

    async fn attach(
        &self,
        node: &TableOrPartition,
        index: &str,
        partition: &TableOrPartition,
        part: &str,
    ) -> Result<(), PostgresError> {
        let indexes = self.indexes(&partition.table).await?;
        if indexes.iter().any(|found| found.is_ours(part) && found.parent.is_some()) {
            return Ok(());
        }
        let qualified =
            |table: &TableName, name: &str| TableName { schema: table.schema.clone(), table: name.to_owned() }.sql();
        self.with_short_lock(&format!(
            "alter index {} attach partition {}",
            qualified(&node.table, index),
            qualified(&partition.table, part)
        ))
        .await
    }

    async fn partitions(&self, table: &TableName) -> Result<Vec<TableOrPartition>, PostgresError> {
        let sql = "select n.nspname::text as schema, c.relname::text as name, c.relkind = 'p' as partitioned from pg_inherits h \
                   join pg_class c on c.oid = h.inhrelid join pg_namespace n on n.oid = c.relnamespace \
                   where h.inhparent = to_regclass($1) order by 1, 2";
        let rows = self.pool.query(sql, &[(&table.sql(), Type::TEXT)]).await?;
        let node = |row: &tokio_postgres::Row| TableOrPartition {
            table: TableName { schema: row.get("schema"), table: row.get("name") },
            partitioned: row.get("partitioned"),
        };
        Ok(rows.iter().map(node).collect())
    }

    /// The unique index that the feedback table can have. It must hold the columns by which the table and its partitions are partitioned, in their
    /// collation. Otherwise why it can have none.
    pub(in crate::migrate) async fn unique_index(&self) -> Result<Result<Wanted, String>, PostgresError> {
        let rows = self.pool.query(sql::PARTITION_KEYS.text(), &[(&self.table().sql(), Type::TEXT)]).await?;
        Ok(match rows.iter().find(|row| !row.get::<_, bool>("can_be_unique")) {
            Some(row) => Err(format!(
                "table {} is partitioned by {}, and a unique index must hold its partition key; partition by adv_campaign_id or client_id",
                row.get::<_, &str>("table_name"),
                row.get::<_, &str>("key")
            )),
            None => {
                let kept =
                    [("client_id", "client_in_collation"), ("adv_campaign_id", "campaign_in_collation")].into_iter();
                let kept = kept.filter(|(_, at)| rows.iter().any(|row| row.get::<_, bool>(*at)));
                Ok(Wanted::once().with(&kept.map(|(column, _)| column).collect::<Vec<_>>()))
            }
        })
    }

    /// Drops everything of ours for this purpose on a partitioned table, valid or not.
    async fn forget_below(&self, wanted: &Wanted) -> Result<(), PostgresError> {
        let sql = "select n.nspname::text as schema, c.relname::text as name from pg_partition_tree(to_regclass($1)) t \
                   join pg_class c on c.oid = t.relid join pg_namespace n on n.oid = c.relnamespace order by t.level";
        let rows = self.pool.query(sql, &[(&self.table().sql(), Type::TEXT)]).await?;
        for row in rows {
            let index = TableName { schema: row.get("schema"), table: wanted.name(row.get("name")) };
            self.with_short_lock(&format!("drop index if exists {}", index.sql())).await?;
        }
        Ok(())
    }
}
