# PostgreSQL of the system, over its socket: the gateway's role sees views only, another owns them.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.ai-stack;
  psql = "${lib.getExe' config.services.postgresql.finalPackage "psql"} -v ON_ERROR_STOP=1 -q";
  url = role: "postgresql://${role}@/aidb?host=/run/postgresql";
in
{
  options.services.ai-stack.postgresql = {
    createLocally = lib.mkEnableOption "PostgreSQL of the system, with pgvector, in place of a supervised one";
    timescaledb = lib.mkEnableOption "TimescaleDB in it, for the tables of time series";
  };

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      {
        assertions = [
          {
            assertion = cfg.postgresql.timescaledb -> cfg.postgresql.createLocally;
            message = "services.ai-stack.postgresql.timescaledb needs services.ai-stack.postgresql.createLocally.";
          }
        ];
      }
      (lib.mkIf cfg.postgresql.createLocally {
        services.ai-stack.settings = {
          database_url = lib.mkDefault (url "aidb_gateway");
          database_admin_url = lib.mkDefault (url "aidb_owner");
        };

        services.postgresql = {
          enable = true;
          extensions =
            available:
            [ available.pgvector ]
            ++ lib.optional cfg.postgresql.timescaledb available.timescaledb-apache;
          settings.shared_preload_libraries = lib.mkIf cfg.postgresql.timescaledb [ "timescaledb" ];
          identMap = ''
            ai-stack ai-stack aidb_owner
            ai-stack ai-stack aidb_gateway
          '';
          authentication = ''
            local aidb aidb_owner,aidb_gateway peer map=ai-stack
          '';
        };

        # As the superuser, once the server runs: roles, database and extensions; twice is harmless.
        systemd.services.postgresql-setup.serviceConfig.ExecStartPost = [
          "${psql} -d postgres -f ${../../src/ai_stack/supervisor/roles.sql}"
        ]
        ++ lib.optional cfg.postgresql.timescaledb "${psql} -d aidb -c 'CREATE EXTENSION IF NOT EXISTS timescaledb'";

        systemd.services.ai-stack = {
          requires = [ "postgresql.target" ];
          after = [ "postgresql.target" ];
        };
      })
    ]
  );
}
