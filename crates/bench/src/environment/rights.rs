//! Which rights are missing, each with what grants it.

use tokio_postgres::types::Type;

use crate::environment::{LEDGER, SCHEMA};
use crate::error::BenchError;
use dinnerbell_postgres::connect::Pool;

/// Whether databases may be made.
pub async fn may_make_databases(pool: &Pool, missing: &mut Vec<String>) -> Result<(), BenchError> {
    let sql = "select rolcreatedb or rolsuper, rolname::text from pg_roles where rolname = current_user";
    let rows = pool.query(sql, &[]).await?;
    if let Some(row) = rows.first()
        && !row.get::<_, bool>(0)
    {
        let (address, role): (_, String) = (pool.address(), row.get(1));
        missing.push(format!(
            "{address}: `alter role \"{role}\" createdb`, or name a database that is nobody's with --database"
        ));
    }
    Ok(())
}

/// A database that was named must be free of our names, and allow schemas.
pub async fn may_use_database(pool: &Pool, name: &str, missing: &mut Vec<String>) -> Result<(), BenchError> {
    let sql = "select has_database_privilege(current_database(), 'CREATE'), current_user::text, \
               coalesce((select min(nspname)::text from pg_namespace where nspname = any($1)), '')";
    let rows = pool.query(sql, &[(&vec![LEDGER, SCHEMA], Type::TEXT_ARRAY)]).await?;
    let Some(row) = rows.first() else { return Ok(()) };
    let (may, role, taken): (bool, String, String) = (row.get(0), row.get(1), row.get(2));
    if !taken.is_empty() {
        return Err(BenchError::Failed(format!(
            "database {name} holds a schema {taken}, which the bench would drop: name a database that is nobody's, or drop that schema if a \
             bench that was killed left it"
        )));
    }
    if !may {
        missing.push(format!("{}: `grant create on database \"{name}\" to \"{role}\"`", pool.address()));
    }
    Ok(())
}
