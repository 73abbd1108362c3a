# services.ai-stack of Home Manager: the whole stack for one user, in that user's folders.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;

  cfg = config.services.ai-stack;
  settings = import ./settings.nix { inherit lib; };
  variables = settings.environment cfg.settings;

  # As a shell reads it between double quotes.
  quoted =
    builtins.replaceStrings [ "\\" "\"" "$" "`" ] [ "\\\\" "\\\"" "\\$" "\\`" ];
in
{
  options.services.ai-stack = {
    enable = lib.mkEnableOption "AI Stack for this user: documents, search and language models behind one gateway";

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ./package.nix { };
      description = "The package of AI Stack.";
    };

    settings = settings.options;

    environmentFile = mkOption {
      type = types.nullOr types.path;
      default = null;
      description = "File of variables with the secrets, which systemd reads; it wins over the settings.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = settings.assertions cfg.settings ++ [
      (settings.outside "environmentFile" cfg.environmentFile)
    ];

    home.packages = [ cfg.package ];
    home.sessionVariables = builtins.mapAttrs (_: quoted) variables;

    systemd.user.services.ai-stack = {
      Unit = {
        Description = "AI Stack";
        After = [ "network.target" ];
      };
      Service = {
        ExecStart = "${lib.getExe cfg.package} up";
        ExecReload = "${lib.getExe cfg.package} restart";
        Environment = lib.mapAttrsToList settings.assignment variables;
        EnvironmentFile = lib.mkIf (cfg.environmentFile != null) (toString cfg.environmentFile);
        Restart = "on-failure";
        RestartSec = 5;
        KillMode = "mixed";
        TimeoutStopSec = cfg.settings.shutdown_grace_s + 60;
        NoNewPrivileges = true;
        LockPersonality = true;
        RestrictRealtime = true;
        RestrictSUIDSGID = true;
        UMask = "0077";
      };
      Install.WantedBy = [ "default.target" ];
    };
  };
}
