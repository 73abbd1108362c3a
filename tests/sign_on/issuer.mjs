// An OpenID Connect issuer on loopback, whose own pages let in whoever names an account.
// Its argument is JSON: the port, the clients, and the resources that its tokens may be for.
import { Provider } from "oidc-provider";

const { port, clients, resources } = JSON.parse(process.argv[2]);

const account = (context, id) => ({
  accountId: id,
  claims: () => ({ sub: id, name: id, email: `${id}@panva.example`, email_verified: true }),
});

const resource = (context, indicator) => {
  if (!resources.includes(indicator)) throw new Error("unknown resource");
  return {
    scope: "openid",
    audience: indicator,
    accessTokenFormat: "jwt",
    jwt: { sign: { alg: "RS256" } },
  };
};

const provider = new Provider(`http://localhost:${port}`, {
  clients,
  findAccount: account,
  claims: { openid: ["sub"], profile: ["name"], email: ["email", "email_verified"] },
  pkce: { required: () => true },
  features: { resourceIndicators: { enabled: true, getResourceServerInfo: resource } },
});

provider.listen(port, "127.0.0.1", () => console.log("listening"));
