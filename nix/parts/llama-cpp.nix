# llama.cpp of the system, with the graphics card's rights, in place of the supervised one.
{
  config,
  lib,
  options,
  ...
}:
let
  cfg = config.services.ai-stack;
  own = cfg.llama-cpp;
  place = {
    host = "127.0.0.1";
    inherit (own) port;
  };
  isNewer = options.services.llama-cpp ? settings; # there all options have become one set
in
{
  options.services.ai-stack.llama-cpp = {
    createLocally = lib.mkEnableOption "llama.cpp of the system; services.llama-cpp names its model";
    port = lib.mkOption {
      type = lib.types.port;
      default = 8080;
      description = "Port of llama.cpp, on loopback.";
    };
  };

  config = lib.mkIf (cfg.enable && own.createLocally) {
    services.llama-cpp = {
      enable = true;
    }
    // (if isNewer then { settings = place; } else place);
    systemd.services.ai-stack = {
      wants = [ "llama-cpp.service" ];
      after = [ "llama-cpp.service" ];
    };
  };
}
