# Two Redis servers of the system: one that evicts what is used least, one that evicts nothing.
{ config, lib, ... }:
let
  cfg = config.services.ai-stack;
  servers = config.services.redis.servers;
  names = [
    "ai-stack"
    "ai-stack-kept"
  ];
in
{
  options.services.ai-stack.redis.createLocally =
    lib.mkEnableOption "Redis of the system, in place of supervised ones";

  config = lib.mkIf (cfg.enable && cfg.redis.createLocally) {
    services.ai-stack.settings = {
      redis_url = lib.mkDefault "unix://${servers.ai-stack.unixSocket}";
      redis_kept_url = lib.mkDefault "unix://${servers.ai-stack-kept.unixSocket}";
    };

    services.redis.servers = {
      ai-stack = {
        enable = true;
        unixSocketPerm = 660;
        settings = {
          maxmemory = lib.mkDefault "512mb";
          maxmemory-policy = lib.mkDefault "allkeys-lru";
        };
      };
      ai-stack-kept = {
        enable = true;
        unixSocketPerm = 660;
        appendOnly = true;
        settings.maxmemory-policy = lib.mkDefault "noeviction";
      };
    };

    systemd.services.ai-stack = {
      wants = map (name: "redis-${name}.service") names;
      after = map (name: "redis-${name}.service") names;
      serviceConfig.SupplementaryGroups = map (name: servers.${name}.group) names;
    };
  };
}
