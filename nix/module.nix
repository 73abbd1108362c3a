# services.ai-stack: the whole stack as one unit. Nothing changes until it is enabled, and no
# server of the system is used, started or set up until its createLocally is.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkDefault mkOption types;

  cfg = config.services.ai-stack;
  settings = import ./settings.nix { inherit lib; };
  variables = settings.environment cfg.settings;

  home = "/var/lib/ai-stack";
  isElsewhere = toString cfg.settings.data_dir != home;

  # The command with the unit's settings; a variable that the caller sets wins.
  command = pkgs.writeShellScriptBin "ai-stack" ''
    ${builtins.concatStringsSep "\n" (lib.mapAttrsToList defaulted variables)}
    exec ${lib.getExe cfg.package} "$@"
  '';
  defaulted = name: value: "[ -n \"\${${name}-}\" ] || export ${name}=${lib.escapeShellArg value}";
in
{
  imports = [
    ./parts/postgresql.nix
    ./parts/redis.nix
    ./parts/qdrant.nix
    ./parts/llama-cpp.nix
    ./parts/vllm.nix
  ];

  options.services.ai-stack = {
    enable = lib.mkEnableOption "AI Stack: documents, search and language models behind one gateway";

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ./package.nix { };
      description = "The package of AI Stack.";
    };

    settings = settings.options;

    environmentFile = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = "/run/secrets/ai-stack.env";
      description = "File of variables with the secrets, which systemd reads; it wins over the settings.";
    };

    credentials = mkOption {
      type = types.attrsOf types.path;
      default = { };
      example = {
        ai-stack-master = "/run/secrets/ai-stack-master";
      };
      description = "Files that systemd hands to the unit under /run/credentials/ai-stack.service; the master key is `ai-stack-master`.";
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Open the gateway's port in the firewall.";
    };

    bubblewrap = mkOption {
      type = types.bool;
      default = false;
      description = "Leave the unit what bubblewrap needs, for browsers and for skills of yours that use the network.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions =
      settings.assertions cfg.settings
      ++ [ (settings.outside "environmentFile" cfg.environmentFile) ]
      ++ lib.mapAttrsToList (name: settings.outside "credentials.${name}") cfg.credentials;

    services.ai-stack.settings = {
      data_dir = mkDefault home;
      config_dir = mkDefault "${toString cfg.settings.data_dir}/config";
      runtime_dir = mkDefault "/run/ai-stack";
    };

    users.users.ai-stack = {
      isSystemUser = true;
      group = "ai-stack";
      home = toString cfg.settings.data_dir;
    };
    users.groups.ai-stack = { };

    environment.systemPackages = [ command ];
    networking.firewall.allowedTCPPorts = lib.mkIf cfg.openFirewall [ cfg.settings.port ];

    systemd.services.ai-stack = {
      description = "AI Stack";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      environment = builtins.mapAttrs (_: builtins.replaceStrings [ "%" ] [ "%%" ]) variables;
      serviceConfig = {
        Type = "exec";
        ExecStart = "${lib.getExe cfg.package} up";
        ExecReload = "${lib.getExe cfg.package} restart";
        User = "ai-stack";
        Group = "ai-stack";
        StateDirectory = lib.mkIf (!isElsewhere) "ai-stack";
        StateDirectoryMode = "0700";
        RuntimeDirectory = "ai-stack";
        RuntimeDirectoryMode = "0700";
        WorkingDirectory = toString cfg.settings.data_dir;
        ReadWritePaths =
          lib.optional isElsewhere (toString cfg.settings.data_dir)
          ++ lib.optional (cfg.settings.backup_dir != null) (toString cfg.settings.backup_dir);
        EnvironmentFile = lib.mkIf (cfg.environmentFile != null) (toString cfg.environmentFile);
        LoadCredential = lib.mapAttrsToList (name: file: "${name}:${toString file}") cfg.credentials;
        Restart = "on-failure";
        RestartSec = 5;
        KillMode = "mixed";
        TimeoutStartSec = 60;
        TimeoutStopSec = cfg.settings.shutdown_grace_s + 60;
      }
      // import ./hardening.nix {
        inherit lib;
        inherit (cfg) bubblewrap;
      };
    };
  };
}
