"""What the deny-list takes for sensitive, in twelve languages, and what it must not."""

import pytest

from services.profile.stated.sensitive import Policy, find_subjects, lacks

DENIED = (
    "The user is Catholic.",
    "Reads about religion",
    "Politics",
    "They lean left-wing.",
    "news/politics, elections",
    "The user has diabetes.",
    "Likely depressed.",
    "Uses a wheelchair.",
    "The user is gay.",
    "LGBTQ+ films",
    "The user is probably female.",
    "The user is 34 years old.",
    "The user is in their 30s.",
    "An African-American reader.",
    "A trade union member.",
    "The user has a criminal record.",
    "A devout reader who leans conservative.",
    "Likely in her late twenties.",
    "The user is in their mid-30s.",
    "The user is of Turkish descent.",
    "The user has chronic pain and migraines.",
    "Der Nutzer ist katholisch.",
    "Der Nutzer ist 34 Jahre alt und Gewerkschaftsmitglied.",
    "L'utilisateur est musulman et s'intéresse à la politique.",
    "El usuario tiene cáncer.",
    "O usuário vota; gosta de eleições.",
    "L'utente è un uomo iscritto al sindacato.",
    "De gebruiker is gehandicapt.",
    "用户是女性，信仰佛教。",
    "ユーザーは34歳で、うつ病です。",
    "المستخدم مسلم ويهتم بالسياسة.",
    "उपयोगकर्ता मुस्लिम है और राजनीति पढ़ता है।",
    "Пользователь интересуется политикой и болеет диабетом.",
)
ALLOWED = (
    "The user likes party games and dinner parties.",
    "A Union Jack mug",
    "The user picks a black dress.",
    "race cars and racing games",
    "Crime",
    "Thriller",
    "crime, thriller and true crime podcasts",
    "political thrillers",
    "Christian Bale films",
    "Cristiano Ronaldo and Christian Eriksen",
    "The Great Depression in novels",
    "gender-neutral clothes",
    "kosher salt",
    "The user likes straight answers.",
    "white shirts, black shoes",
    "liberal arts, conservative estimates",
    "Ice Age",
    "songs of the late 80s and early 90s",
    "The Descent",
    "non-alcoholic drinks",
    "blind date with a book",
    "strong female leads",
    "visual aids",
    "The user prefers short, direct answers with sources.",
    "Der Nutzer hat die Wahl und mag Partyspiele.",
    "Les films d'il y a 20 ans.",
    "Películas de acción de los años 80.",
    "時代劇と現代の小説",
    "岁月如歌，喜欢惊悚片",
    "الأفلام الحديثة والموسيقى",
    "हास्य फिल्में",
    "Летние фильмы, снятые 20 лет назад.",
)


@pytest.mark.parametrize("text", DENIED)
def test_sensitive_subjects_are_denied(text: str) -> None:
    assert find_subjects(text)
    assert not find_subjects(text, Policy(sensitive=False))


@pytest.mark.parametrize("text", ALLOWED)
def test_everyday_words_are_not(text: str) -> None:
    assert find_subjects(text) == frozenset()


@pytest.mark.parametrize(
    ("topic", "text", "is_denied"),
    [
        ("gambling", "The user likes gambling sites.", True),
        ("casino", "Casinos by the sea", True),
        ("slot machines", "A slot machine for the home", True),
        ("slot machines", "A coffee machine with a slot", False),
        ("casino", "Ocean views", False),
        ("赌博", "用户喜欢赌博游戏", True),
        ("Glücksspiel", "Mag GLÜCKSSPIEL.", True),
        ("1984", "Reads 1984 again.", True),
        ("1984", "Reads (1984).", True),
        ("1984", "Reads 2001 again.", False),
        ("1984", "Takes 1984.50 with them.", False),
        ("1984", "小説は1984年のもの", True),
        ("1984", "小説は2001年のもの", False),
        ("5", "Pays about 3.5 or 5,000.", False),
        ("area 51", "Films about Area 51", True),
        ("area 51", "Films about area 52", False),
        ("1984年", "11984年", False),
        ("1984年", "1984年の小説", True),
        ("4chan", "Posts on 4chan.", True),
        ("***", "The user likes jazz.", False),
    ],
)
def test_topics_of_a_tenant_are_denied(topic: str, text: str, is_denied: bool) -> None:
    found = find_subjects(text, Policy(sensitive=False, denied=frozenset({topic})))
    assert found == (frozenset({topic}) if is_denied else frozenset())


def test_what_is_stated_lacks_nothing() -> None:
    stated = find_subjects("I am a Catholic.")
    assert not lacks(find_subjects("The user is religious, a Catholic."), stated)
    assert lacks(find_subjects("The user is a Muslim."), stated)
    assert lacks(find_subjects("The user is Catholic and votes for the Democrats."), stated)
    assert not lacks(find_subjects("The user likes jazz."), frozenset())
    assert not lacks(find_subjects("Der Nutzer ist katholisch."), stated), "another language"
