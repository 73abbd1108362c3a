# The options of NixOS that the module sets, with their types: a name that is not here is refused.
{ lib, pkgs, ... }:
let
  inherit (lib) types;

  option =
    type: default:
    lib.mkOption {
      inherit type default;
    };
  flag = option types.bool false;
  list = option (types.listOf types.str) [ ];
  text = option types.lines "";
  named = default: type: option (types.attrsOf type) default;

  unit = types.submodule {
    description = option types.str "";
    after = list;
    requires = list;
    wantedBy = list;
    wants = list;
    environment = named { } (types.oneOf [ types.str types.path ]);
    serviceConfig = named { } types.unitOption;
  };

  server = types.submodule {
    enable = flag;
    appendOnly = flag;
    settings = named { } types.value;
    group = option types.str "redis-group";
    unixSocket = option types.path "/run/redis/redis.sock";
    unixSocketPerm = option types.int 600;
  };

  container = types.submodule {
    image = lib.mkOption { type = types.str; };
    cmd = list;
    ports = list;
    volumes = list;
    extraOptions = list;
    environmentFiles = option (types.listOf types.path) [ ];
  };

  account = types.submodule {
    isSystemUser = flag;
    group = option types.str "";
    home = option types.path "/var/empty";
  };
in
{
  options = {
    assertions = option (types.listOf types.value) [ ];
    environment.systemPackages = option (types.listOf types.package) [ ];
    networking.firewall.allowedTCPPorts = option (types.listOf types.port) [ ];
    systemd.services = named { } unit;
    systemd.tmpfiles.rules = list;
    users.users = named { } account;
    users.groups = named { } (types.submodule { });
    virtualisation.oci-containers.containers = named { } container;

    services.postgresql = {
      enable = flag;
      extensions = option (types.choice pkgs.postgresqlPackages) (_: [ ]);
      finalPackage = option types.package pkgs.postgresql;
      settings = named { } types.value;
      identMap = text;
      authentication = text;
    };
    services.redis.servers = named { } server;
    services.qdrant = {
      enable = flag;
      settings = option types.value { };
    };
    services.llama-cpp = {
      enable = flag;
      host = option types.str "127.0.0.1";
      port = option types.port 8080;
    };
  };
}
