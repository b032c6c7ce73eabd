"""Passages that are not in the question's language, wholly or in part; pure, knows no detector and no translator.

A translation is asked of the world, where it has one. Else a gloss is made, and a crude one: common English words are
replaced by German, French or Spanish ones, one by one, without grammar; names, numbers, code and rare words stay. That
is enough to mislead a model that was only ever shown one language, and no substitute for translated text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from random import Random

from llama_index_hybridmem.noise.edits import Edit, Span
from llama_index_hybridmem.noise.operators.registry import Change, of_passage
from llama_index_hybridmem.noise.scene import Passage, World

LANGUAGES = ("de", "fr", "es")
"""What English passages come in; others come in English, if there is a translation."""

ENGLISH = 0.2
"""Share of a text's words that the lexicon must have for the text to count as English: English prose has about half of
its words there, German, French and Spanish under a tenth."""

_END = re.compile(r"(?<=[.!?。！？])[\"'”’)\]]*(?:\s+|(?<=[。！？]))|(?<!\s)\s*\n\s*")
_FENCE = re.compile(r"^[ \t>]*(```|~~~).*?(?:^[ \t>]*\1|\Z)", re.MULTILINE | re.DOTALL)
_LETTER = re.compile(r"[^\W\d_]")
_KEPT_OR_WORD = re.compile(r"`[^`\n]*`|\]\([^)\s]*\)|(?<![\w'’.@/=&#-])([A-Za-z]+)(?![\w'’@/=]|[-.]\w)")
_SENTENCE_START = re.compile(r"(?:\A|[.!?\n])[\s\"'“‘(*#>-]*\Z")


@of_passage("wrong_language", "language")
def wrong_language(passage: Passage, severity: float, draw: Random, world: World) -> Change | None:
    """Sentences translated, or with common words in another language; severity is the share of them.

    Severity is the share of the sentences, at least one. Nothing for a text without words, nor, without a translation,
    for one that is not English.
    """
    text = passage.text
    sentences = _sentences(text)
    english = _is_english(text)
    if not sentences or not (english or world.translate):
        return None
    language = draw.choice(LANGUAGES) if english else "en"
    chosen = sorted(draw.sample(sentences, min(len(sentences), max(1, round(severity * len(sentences))))))
    translate = world.translate or _gloss
    edits = list(_translated(text, _joined(text, chosen), language, translate))
    by = "gloss" if world.translate is None else "translation"
    return Change(edits, note={"language": language, "by": by}) if edits else None


def _sentences(text: str) -> list[Span]:
    """Where sentences and lines stand that have a letter, those of code fences left out."""
    fences = [match.span() for match in _FENCE.finditer(text)] if "```" in text or "~~~" in text else []
    ends = [(match.start(), match.end()) for match in _END.finditer(text)]
    starts = [0, *(end for _, end in ends)]
    spans = zip(starts, [*(start for start, _ in ends), len(text)], strict=True)
    return [
        span
        for span in spans
        if _LETTER.search(text, *span) and not any(start < span[1] and span[0] < end for start, end in fences)
    ]


def _joined(text: str, spans: Sequence[Span]) -> Iterator[Span]:
    """Spans with nothing but blanks and quotes between them as one: whole paragraphs translate better."""
    start, end = spans[0]
    for span in spans[1:]:
        if _LETTER.search(text, end, span[0]) or "\n" in text[end : span[0]] or span[0] - end > 4:
            yield start, end
            start = span[0]
        end = span[1]
    yield start, end


def _translated(
    text: str, spans: Iterator[Span], language: str, translate: Callable[[str, str], str]
) -> Iterator[Edit]:
    for start, end in spans:
        put = translate(text[start:end], language)
        if put.strip() and put != text[start:end]:
            yield Edit(start, end, put)


def _is_english(text: str) -> bool:
    words = text.lower().split()
    known = _lexicon(LANGUAGES[0])
    return sum(word in known for word in words) >= max(1, ENGLISH * len(words))


def _gloss(text: str, language: str) -> str:
    lexicon = _lexicon(language)

    def put(match: re.Match[str]) -> str:
        word = match[1]
        if word is None:
            return match[0]
        if word in lexicon:
            return lexicon[word]
        lower = word.lower()
        starts = lower in lexicon and _SENTENCE_START.search(text, max(0, match.start() - 4), match.start())
        return lexicon[lower].capitalize() if starts and (word.istitle() or len(word) == 1) else word

    return _KEPT_OR_WORD.sub(put, text)


@cache
def _lexicon(language: str) -> dict[str, str]:
    at = 1 + LANGUAGES.index(language)
    entries = (entry.split(":") for entry in _ENTRIES.split())
    return {entry[0]: entry[at].replace("_", " ") for entry in entries}


_ENTRIES = """
the:die:la:la a:ein:un:un an:eine:une:una and:und:et:y or:oder:ou:o but:aber:mais:pero of:von:de:de in:in:dans:en
to:zu:à:a for:für:pour:para with:mit:avec:con without:ohne:sans:sin on:auf:sur:sobre at:bei:à:en by:durch:par:por
from:aus:de:desde as:als:comme:como into:in:dans:en between:zwischen:entre:entre during:während:pendant:durante
after:nach:après:después before:vor:avant:antes under:unter:sous:bajo over:über:sur:sobre
against:gegen:contre:contra about:über:sur:sobre through:durch:par:por until:bis:jusque:hasta
since:seit:depuis:desde within:innerhalb:dans:dentro is:ist:est:es are:sind:sont:son was:war:était:era
were:waren:étaient:eran be:sein:être:ser been:gewesen:été:sido being:seiend:étant:siendo has:hat:a:tiene
have:haben:ont:tienen had:hatte:avait:tenía having:habend:ayant:teniendo do:tun:font:hacen does:tut:fait:hace
did:tat:fit:hizo can:kann:peut:puede could:könnte:pourrait:podría will:wird:va:va would:würde:serait:sería
should:sollte:devrait:debería may:kann:peut:puede might:könnte:pourrait:podría must:muss:doit:debe not:nicht:pas:no
no:kein:aucun:ningún yes:ja:oui:sí it:es:il:ello its:sein:son:su he:er:il:él his:sein:son:su him:ihn:lui:él
she:sie:elle:ella her:ihr:sa:su they:sie:ils:ellos their:ihr:leur:su them:sie:les:los we:wir:nous:nosotros
our:unser:notre:nuestro us:uns:nous:nos you:Sie:vous:usted your:Ihr:votre:su my:mein:mon:mi this:dies:ce:este
that:das:que:que these:diese:ces:estos those:jene:ces:esos there:dort:là:allí here:hier:ici:aquí
which:welche:lequel:cual who:der:qui:quien whose:dessen:dont:cuyo what:was:quoi:qué when:wenn:quand:cuando
where:wo:où:donde why:warum:pourquoi:por_qué how:wie:comment:cómo if:wenn:si:si because:weil:parce_que:porque
while:während:tandis_que:mientras although:obwohl:bien_que:aunque though:obwohl:bien_que:aunque so:so:donc:así
than:als:que:que then:dann:alors:entonces also:auch:aussi:también only:nur:seulement:solo very:sehr:très:muy
more:mehr:plus:más most:meist:plupart:mayoría less:weniger:moins:menos many:viele:beaucoup:muchos
much:viel:beaucoup:mucho some:einige:quelques:algunos any:irgendein:quelque:cualquier all:alle:tous:todos
each:jeder:chaque:cada every:jeder:chaque:cada both:beide:deux:ambos other:andere:autre:otro
others:andere:autres:otros another:andere:autre:otro such:solche:tel:tal same:gleich:même:mismo
own:eigen:propre:propio one:ein:un:uno two:zwei:deux:dos three:drei:trois:tres four:vier:quatre:cuatro
five:fünf:cinq:cinco six:sechs:six:seis seven:sieben:sept:siete eight:acht:huit:ocho nine:neun:neuf:nueve
ten:zehn:dix:diez hundred:hundert:cent:cien thousand:tausend:mille:mil million:Million:million:millón
first:erste:premier:primero second:zweite:deuxième:segundo third:dritte:troisième:tercero last:letzte:dernier:último
next:nächste:prochain:próximo new:neu:nouveau:nuevo old:alt:vieux:viejo young:jung:jeune:joven good:gut:bon:bueno
bad:schlecht:mauvais:malo great:groß:grand:grande large:groß:grand:grande larger:größer:plus_grand:mayor
largest:größte:plus_grand:mayor big:groß:grand:grande small:klein:petit:pequeño smaller:kleiner:plus_petit:menor
high:hoch:haut:alto higher:höher:plus_haut:más_alto low:niedrig:bas:bajo lower:niedriger:plus_bas:más_bajo
long:lang:long:largo short:kurz:court:corto early:früh:tôt:temprano late:spät:tard:tarde
later:später:plus_tard:más_tarde now:jetzt:maintenant:ahora today:heute:aujourd'hui:hoy still:noch:encore:todavía
already:schon:déjà:ya again:wieder:encore:otra_vez always:immer:toujours:siempre never:nie:jamais:nunca
often:oft:souvent:a_menudo usually:gewöhnlich:habituellement:normalmente sometimes:manchmal:parfois:a_veces
around:etwa:environ:alrededor up:auf:haut:arriba down:ab:bas:abajo out:aus:hors:fuera off:ab:hors:fuera
however:jedoch:cependant:sin_embargo therefore:daher:donc:por_lo_tanto instead:stattdessen:plutôt:en_cambio
together:zusammen:ensemble:juntos well:gut:bien:bien even:sogar:même:incluso just:nur:juste:solo
too:auch:aussi:también almost:fast:presque:casi nearly:fast:presque:casi year:Jahr:an:año years:Jahre:ans:años
month:Monat:mois:mes months:Monate:mois:meses week:Woche:semaine:semana weeks:Wochen:semaines:semanas
day:Tag:jour:día days:Tage:jours:días hour:Stunde:heure:hora hours:Stunden:heures:horas time:Zeit:temps:tiempo
times:Mal:fois:veces century:Jahrhundert:siècle:siglo people:Leute:gens:gente man:Mann:homme:hombre
men:Männer:hommes:hombres woman:Frau:femme:mujer women:Frauen:femmes:mujeres child:Kind:enfant:niño
children:Kinder:enfants:niños world:Welt:monde:mundo country:Land:pays:país countries:Länder:pays:países
city:Stadt:ville:ciudad state:Staat:état:estado states:Staaten:états:estados
government:Regierung:gouvernement:gobierno company:Unternehmen:entreprise:empresa
companies:Unternehmen:entreprises:empresas work:Arbeit:travail:trabajo works:Werke:travaux:obras life:Leben:vie:vida
name:Name:nom:nombre names:Namen:noms:nombres part:Teil:partie:parte parts:Teile:parties:partes
number:Zahl:nombre:número group:Gruppe:groupe:grupo groups:Gruppen:groupes:grupos system:System:système:sistema
systems:Systeme:systèmes:sistemas place:Ort:lieu:lugar end:Ende:fin:fin beginning:Anfang:début:comienzo
way:Weise:manière:manera case:Fall:cas:caso cases:Fälle:cas:casos thing:Ding:chose:cosa things:Dinge:choses:cosas
water:Wasser:eau:agua house:Haus:maison:casa school:Schule:école:escuela
university:Universität:université:universidad book:Buch:livre:libro books:Bücher:livres:libros
film:Film:film:película series:Serie:série:serie song:Lied:chanson:canción album:Album:album:álbum
band:Band:groupe:banda game:Spiel:jeu:juego games:Spiele:jeux:juegos team:Mannschaft:équipe:equipo
season:Saison:saison:temporada war:Krieg:guerre:guerra history:Geschichte:histoire:historia law:Gesetz:loi:ley
king:König:roi:rey queen:Königin:reine:reina president:Präsident:président:presidente member:Mitglied:membre:miembro
members:Mitglieder:membres:miembros son:Sohn:fils:hijo daughter:Tochter:fille:hija father:Vater:père:padre
mother:Mutter:mère:madre brother:Bruder:frère:hermano wife:Ehefrau:épouse:esposa husband:Ehemann:mari:esposo
family:Familie:famille:familia population:Bevölkerung:population:población area:Gebiet:région:área
north:Norden:nord:norte south:Süden:sud:sur east:Osten:est:este west:Westen:ouest:oeste river:Fluss:rivière:río
island:Insel:île:isla language:Sprache:langue:lengua music:Musik:musique:música market:Markt:marché:mercado
price:Preis:prix:precio prices:Preise:prix:precios cost:Kosten:coût:coste money:Geld:argent:dinero
power:Macht:pouvoir:poder energy:Energie:énergie:energía value:Wert:valeur:valor values:Werte:valeurs:valores
example:Beispiel:exemple:ejemplo question:Frage:question:pregunta answer:Antwort:réponse:respuesta
result:Ergebnis:résultat:resultado results:Ergebnisse:résultats:resultados use:Gebrauch:usage:uso
uses:nutzt:utilise:usa used:benutzt:utilisé:usado using:mit:avec:usando made:gemacht:fait:hecho
make:machen:faire:hacer makes:macht:fait:hace called:genannt:appelé:llamado known:bekannt:connu:conocido
born:geboren:né:nacido died:starb:mourut:murió became:wurde:devint:llegó_a_ser become:werden:devenir:llegar_a_ser
began:begann:commença:comenzó started:begann:commença:empezó ended:endete:termina:terminó
found:gefunden:trouvé:encontrado founded:gegründet:fondé:fundado built:gebaut:construit:construido
written:geschrieben:écrit:escrito wrote:schrieb:écrivit:escribió published:veröffentlicht:publié:publicado
released:veröffentlicht:sorti:lanzado produced:produziert:produit:producido
developed:entwickelt:développé:desarrollado won:gewann:gagna:ganó lost:verlor:perdu:perdido took:nahm:prit:tomó
take:nehmen:prendre:tomar gave:gab:donna:dio give:geben:donner:dar given:gegeben:donné:dado said:sagte:dit:dijo
says:sagt:dit:dice see:sehen:voir:ver seen:gesehen:vu:visto went:ging:alla:fue go:gehen:aller:ir came:kam:vint:vino
come:kommen:venir:venir led:führte:mena:llevó played:spielte:joua:jugó needs:braucht:nécessite:necesita
need:brauchen:besoin:necesitan include:umfassen:incluent:incluyen includes:umfasst:inclut:incluye
including:einschließlich:y_compris:incluyendo located:gelegen:situé:situado based:beruhend:basé:basado
different:verschieden:différent:diferente important:wichtig:important:importante public:öffentlich:public:público
local:örtlich:local:local national:national:national:nacional
international:international:international:internacional common:häufig:commun:común several:mehrere:plusieurs:varios
few:wenige:peu:pocos half:Hälfte:moitié:mitad per:pro:par:por whether:ob:si:si
"""
"""English word, then as in `LANGUAGES`; of several meanings the one that texts about facts have most."""
