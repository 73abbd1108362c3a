# A machine with the module, booted: what is stored is found, and survives a restart.
{ pkgs, module }:
pkgs.testers.runNixOSTest {
  name = "ai-stack";

  nodes.embedded = {
    imports = [ module ];
    virtualisation.memorySize = 4096;
    virtualisation.diskSize = 8192;
    services.ai-stack.enable = true;
  };

  nodes.composed = {
    imports = [ module ];
    virtualisation.memorySize = 4096;
    virtualisation.diskSize = 8192;
    services.ai-stack = {
      enable = true;
      postgresql.createLocally = true;
      redis.createLocally = true;
      qdrant.createLocally = true;
    };
  };

  testScript = ''
    import json

    HEADER = "-H 'content-type: application/json'"
    URL = "http://127.0.0.1:8091"

    def post(machine, path, body):
        text = machine.succeed(f"curl -sf {URL}{path} {HEADER} -d '{json.dumps(body)}'")
        return json.loads(text)

    def is_found(machine):
        answer = post(machine, "/search/semantic", {"query": "how long are copies kept"})
        return "thirty days" in json.dumps(answer)

    start_all()
    for machine in (embedded, composed):
        machine.wait_for_unit("ai-stack.service")
        machine.wait_until_succeeds(f"curl -sf {URL}/health/ready", timeout=300)
        post(machine, "/documents", {"content": "Old copies are kept for thirty days."})
        retry(lambda _: is_found(machine))
        machine.systemctl("restart ai-stack.service")
        machine.wait_until_succeeds(f"curl -sf {URL}/health/ready", timeout=300)
        retry(lambda _: is_found(machine))
        machine.succeed("ai-stack health")

    composed.succeed("systemctl is-active postgresql redis-ai-stack redis-ai-stack-kept qdrant")
    composed.fail("pgrep -u ai-stack postgres")
  '';
}
