# Evaluates a module as a system would, without nixpkgs:
# nix-instantiate --eval --strict --json nix/lib-check/check.nix -A config --arg user '{ … }'
{
  user ? { },
  module ? ../module.nix,
  system ? ./nixos.nix,
}:
let
  lib = import ./.;

  package = name: {
    outPath = "/package/${name}";
    meta.mainProgram = name;
  };
  pkgs = {
    callPackage = _: _: package "ai-stack";
    postgresql = package "postgresql";
    postgresqlPackages = {
      pgvector = "pgvector";
      timescaledb-apache = "timescaledb-apache";
    };
    writeShellScriptBin = name: text: package name // { outPath = text; };
  };

  modules = [ system ] ++ lib.optional (module != null) module ++ [ user ];
  found = lib.evaluate modules { inherit pkgs; };
  others = found.config // {
    services = builtins.removeAttrs (found.config.services or { }) [ "ai-stack" ];
  };
  failed = builtins.filter (one: !one.assertion) found.config.assertions;
in
{
  inherit (found) config;
  inherit others; # all that is not the module's own
  refused = map (one: one.message) failed;

  # Each setting's option, as far as JSON can tell it.
  options = builtins.mapAttrs (_: option: {
    inherit (option) default description;
    type = option.type.description;
  }) found.options.services.ai-stack.settings;
}
