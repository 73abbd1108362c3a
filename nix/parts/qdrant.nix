# A Qdrant server of the system, on loopback, in place of the supervised engine.
{ config, lib, ... }:
let
  cfg = config.services.ai-stack;
  port = config.services.qdrant.settings.service.http_port;
in
{
  options.services.ai-stack.qdrant.createLocally =
    lib.mkEnableOption "a Qdrant server of the system, in place of the supervised engine";

  config = lib.mkIf (cfg.enable && cfg.qdrant.createLocally) {
    services.ai-stack.settings.vectors_url = lib.mkDefault "qdrant://127.0.0.1:${toString port}";
    services.qdrant = {
      enable = true;
      settings.service = {
        host = lib.mkDefault "127.0.0.1";
        http_port = lib.mkDefault 6333;
      };
    };
    systemd.services.ai-stack = {
      wants = [ "qdrant.service" ];
      after = [ "qdrant.service" ];
    };
  };
}
