// An OpenID provider of tests: oidc-provider on 127.0.0.1, with people who log in without a password.
// Its settings come as JSON on standard input; it prints its port, and ends with standard input.
import { createServer } from "node:http";
import Provider from "oidc-provider";

const people = { ann: { groups: [] }, dana: { groups: ["leads"] }, eve: { groups: ["everybody"] } };
const audience = process.argv[2];

const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const port = server.address().port;
  const issuer = `http://127.0.0.1:${port}`;
  const redirects = process.argv.slice(3);
  const provider = new Provider(issuer, {
    clients: [
      { client_id: "remit-browser", token_endpoint_auth_method: "none", redirect_uris: redirects, grant_types: ["authorization_code"], response_types: ["code"] },
      { client_id: "api", token_endpoint_auth_method: "none", redirect_uris: redirects, grant_types: ["authorization_code"], response_types: ["code"] },
    ],
    pkce: { required: () => true },
    claims: { openid: ["sub", "groups"] },
    conformIdTokenClaims: false,
    findAccount: (_, sub) => (people[sub] ? { accountId: sub, claims: () => ({ sub, ...people[sub] }) } : undefined),
    features: {
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        defaultResource: (_, client) => (client.clientId === "api" ? audience : undefined),
        useGrantedResource: () => true,
        // A token is for the resource that the client names (RFC 8707).
        getResourceServerInfo: (_, resource) => ({ scope: "openid", audience: resource, accessTokenFormat: "jwt", accessTokenTTL: 3600 }),
      },
    },
    extraTokenClaims: (_, token) => people[token.accountId],
    interactions: { url: (_, interaction) => `/choose/${interaction.uid}` },
    cookies: { keys: ["a key of tests"] },
    ttl: { Interaction: 600, Session: 600, Grant: 600 },
  });
  const answer = provider.callback();
  server.on("request", async (request, response) => {
    if (!request.url.startsWith("/choose/")) return answer(request, response);
    // The page on which a person would log in and agree: the cookie `person` says who it is.
    const person = /person=([a-z]+)/.exec(request.headers.cookie ?? "")?.[1];
    if (request.method === "GET" && !person) {
      response.setHeader("content-type", "text/html");
      return response.end(Object.keys(people).map((name) => `<form method="post"><button name="person" value="${name}">${name}</button></form>`).join(""));
    }
    try {
      const details = await provider.interactionDetails(request, response);
      let name = person;
      if (request.method === "POST") {
        let body = "";
        for await (const part of request) body += part;
        name = new URLSearchParams(body).get("person");
      }
      const sub = details.session?.accountId ?? name;
      const grant = new provider.Grant({ accountId: sub, clientId: details.params.client_id });
      grant.addOIDCScope("openid");
      if (details.params.client_id === "api") grant.addResourceScope(details.params.resource ?? audience, "openid");
      await provider.interactionFinished(request, response, { login: { accountId: sub }, consent: { grantId: await grant.save() } }, { mergeWithLastSubmission: false });
    } catch (failure) {
      response.statusCode = 500;
      response.end(String(failure));
    }
  });
  console.log(port);
});
process.stdin.on("end", () => process.exit(0)).resume();
