# vLLM in a container of the system, on loopback; and the engines that the gateway asks.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;

  cfg = config.services.ai-stack;
  own = cfg.vllm;
  settings = import ../settings.nix { inherit lib; };
  engines =
    lib.optional cfg.llama-cpp.createLocally "llama-cpp://127.0.0.1:${toString cfg.llama-cpp.port}"
    ++ lib.optional own.createLocally "vllm://127.0.0.1:${toString own.port}";
in
{
  options.services.ai-stack.vllm = {
    createLocally = lib.mkEnableOption "vLLM in a container";
    image = mkOption {
      type = types.str;
      default = "vllm/vllm-openai:v0.11.0";
      description = "Image of vLLM's server.";
    };
    model = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "Qwen/Qwen2.5-Coder-7B-Instruct";
      description = "Hub repository of the model.";
    };
    port = mkOption {
      type = types.port;
      default = 8000;
      description = "Port of vLLM, on loopback.";
    };
    devices = mkOption {
      type = types.listOf types.str;
      default = [ "nvidia.com/gpu=all" ];
      description = "Devices that the container gets.";
    };
    cacheDir = mkOption {
      type = types.path;
      default = "/var/cache/ai-stack-vllm";
      description = "Folder of the models, which has to lie outside the container.";
    };
    environmentFile = mkOption {
      type = types.nullOr types.path;
      default = null;
      description = "File of the container's own secrets, HUGGING_FACE_HUB_TOKEN among them.";
    };
    arguments = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "--max-model-len=8192" ];
      description = "Further arguments of vLLM's server.";
    };
  };

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      { services.ai-stack.settings.engines = lib.mkIf (engines != [ ]) (lib.mkDefault (toString engines)); }
      (lib.mkIf own.createLocally {
        assertions = [
          {
            assertion = own.model != null;
            message = "services.ai-stack.vllm.createLocally needs services.ai-stack.vllm.model.";
          }
          (settings.outside "vllm.environmentFile" own.environmentFile)
        ];

        systemd.tmpfiles.rules = [ "d ${toString own.cacheDir} 0700 root root -" ];
        virtualisation.oci-containers.containers.ai-stack-vllm = {
          inherit (own) image;
          cmd = [
            "--model"
            (toString own.model)
          ]
          ++ own.arguments;
          ports = [ "127.0.0.1:${toString own.port}:8000" ];
          volumes = [ "${toString own.cacheDir}:/root/.cache/huggingface" ];
          environmentFiles = lib.optional (own.environmentFile != null) (toString own.environmentFile);
          extraOptions = map (device: "--device=${device}") own.devices ++ [
            "--ipc=host"
            "--cap-drop=ALL"
            "--security-opt=no-new-privileges"
          ];
        };
      })
    ]
  );
}
