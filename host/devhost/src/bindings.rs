//! Code generated from `wit/`: the interfaces that devhost gives to components, and the world of the cron trigger.

wasmtime::component::bindgen!({
    path: "wit",
    world: "devhost:host/host",
    imports: { default: async | trappable },
    with: {
        "spin:postgres/postgres.connection": crate::postgres::Connection,
        "spin:sqlite/sqlite.connection": crate::sqlite::Connection,
    },
    require_store_data_send: true,
});

/// The world of components that a cron trigger calls.
pub mod cron {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "devhost:host/cron",
        exports: { default: async },
        require_store_data_send: true,
    });
}
