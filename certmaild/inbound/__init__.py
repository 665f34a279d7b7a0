"""Mail from other servers: who may claim a domain, what SPF, DKIM, ARC and DMARC say, and how the result is written."""
